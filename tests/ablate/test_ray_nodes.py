"""What a run gets of a cluster, what its machines must see, and which mistakes are found before Ray is touched. Needs no Ray."""

import importlib.machinery
import socket
from pathlib import Path

import pytest
from helpers.plan_runs import call, recipes, started

from hw1.ablate.plan import make_plan
from hw1.ablate.ray_cluster import connection, scheduler
from hw1.ablate.ray_cluster.nodes import Node, Requirements, Resources, choose_resources, probe_files
from hw1.errors import UserError
from hw1.runs import environment
from hw1.runs.environment import code_digest

HEAD, SMALL, LARGE = Node("0", "head", 0, 0), Node("1", "small", 8, 0), Node("2", "large", 32, 0)
GPUS_8, GPUS_2 = Node("3", "eight", 64, 8), Node("4", "two", 10, 2)


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "on_gpu", "resources", "num_runs"),
    [
        ([SMALL], None, None, True, Resources(8, 0), [1]),
        ([HEAD, SMALL, LARGE], None, None, True, Resources(8, 0), [0, 1, 4]),
        ([SMALL, LARGE], 3, None, True, Resources(3, 0), [2, 10]),
        ([SMALL, LARGE], 20, None, True, Resources(20, 0), [0, 1]),
        ([HEAD, LARGE, GPUS_8], None, None, True, Resources(8, 1), [0, 0, 8]),
        ([LARGE, GPUS_8, GPUS_2], None, None, True, Resources(5, 1), [0, 8, 2]),
        ([GPUS_8, GPUS_2], None, 0.5, True, Resources(2, 0.5), [16, 4]),
        ([GPUS_8, GPUS_2], None, 0.1, True, Resources(1, 0.1), [64, 10]),
        ([GPUS_8, GPUS_2], 16, None, True, Resources(16, 1), [4, 0]),
        ([GPUS_8, GPUS_2], None, None, False, Resources(10, 0), [6, 1]),
        ([GPUS_8, GPUS_2], None, 0, True, Resources(10, 0), [6, 1]),
    ],
)
def test_a_run_gets_a_gpu_with_its_part_of_the_cores_or_a_machine(nodes, cpus, gpus, on_gpu, resources, num_runs):
    chosen = choose_resources(nodes, cpus, gpus, on_gpu=on_gpu)
    assert chosen == resources
    assert [chosen.num_runs(node) for node in nodes] == num_runs


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "line"),
    [
        ([SMALL], 9, None, "9 cores for a run (small: 0 GPU, 8 cores)"),
        ([SMALL, LARGE], None, 1.0, "1 GPU and 1 core for a run (small: 0 GPU, 8 cores, large: 0 GPU, 32 cores)"),
        ([HEAD], None, None, "1 core for a run (head: 0 GPU, 0 cores)"),
        ([GPUS_2], 11, 0.5, "0.5 GPU and 11 cores for a run (two: 2 GPU, 10 cores)"),
    ],
)
def test_what_no_machine_has_is_refused(nodes, cpus, gpus, line):
    with pytest.raises(UserError) as error:
        choose_resources(nodes, cpus, gpus, on_gpu=True)
    assert error.value.problems == (f"--ray: no machine of the cluster has {line}",)


def test_each_folder_of_runs_has_a_probe_file_for_as_long_as_it_is_needed(project):
    recipes("a", "b")
    runs = make_plan(["a.yaml", "b.yaml"], [], ["0", "1"]) + make_plan(["a.yaml"], ["run.dir=other/runs"], ["0"])
    with probe_files(runs) as probes:
        assert [Path(probe).parent for probe in probes] == [project / "runs", project / "other" / "runs"]
        requirements = Requirements(str(project), code_digest(), probes, ("data", str(project / "data")))
        assert requirements.find_problems() == []
    assert requirements.find_problems() == [f"{Path(probe).parent}: not shared: a file written there is not seen" for probe in probes]
    assert list(Path("runs").iterdir()) == list(Path("other/runs").iterdir()) == []


def test_a_folder_of_runs_that_cannot_be_made_is_said(project):
    recipes("a")
    runs = make_plan(["a.yaml"], [], ["0"])
    Path("runs").write_text("")
    with pytest.raises(UserError, match=r"^run\.dir: .*/runs: cannot be written to: File exists$"), probe_files(runs):
        pass


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"folder": "/nowhere"}, ["/nowhere: no such folder there; the command runs in it"]),
        ({"code": "other"}, ["this project's code there is not the same as here"]),
        ({"data_roots": ("data", "moved", "~/moved")}, [f"data.root: {root}: no such folder there" for root in ("moved", "~/moved")]),
        ({"label_files": ("a.yaml", "moved.csv")}, ["data.labels: moved.csv: no such file there"]),
    ],
)
def test_what_a_machine_does_not_see_is_named(project, changes, problems):
    recipes("a")
    assert Requirements(str(project), code_digest(), (), ("data",))._replace(**changes).find_problems() == problems


def test_the_digest_is_of_every_python_file_that_training_runs(tmp_path, monkeypatch):
    package = tmp_path / "hw1"
    (package / "runs").mkdir(parents=True)
    for name in ("errors.py", "runs/environment.py"):
        (package / name).write_text(name)
    monkeypatch.setattr(environment, "__file__", str(package / "runs" / "environment.py"))
    digests = [code_digest()]
    (package / "notes.txt").write_text("no code")
    assert code_digest() == digests[0]
    for name in ("errors.py", "runs/environment.py", "runs/new.py"):
        (package / name).write_text("changed")
        digests.append(code_digest())
    (package / "runs/new.py").rename(package / "new.py")
    digests.append(code_digest())
    assert len(set(digests)) == 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["optim.lr=0", "--ray"], "command line: optim.lr: "),
        (["data.root=nowhere", "--ray", "auto"], "command line: data.root: nowhere: no such folder"),
        (["--ray", "b.yaml"], "--ray: b.yaml: no address; auto or HOST:PORT"),
        (["--ray", "ray://head:10001"], "--ray: ray://head:10001: no address; auto or HOST:PORT"),
        (["--ray", "--cpus-per-run", "0"], "--cpus-per-run: at least 1, got 0"),
        (["--ray", "--gpus-per-run", "2"], "--gpus-per-run: 0 to 1, as a run uses one GPU, got 2"),
        (["--ray", "--gpus-per-run", "nan"], "--gpus-per-run: 0 to 1, as a run uses one GPU, got nan"),
        (["--gpus-per-run", "1"], "--cpus-per-run, --gpus-per-run: only with --ray"),
    ],
)
def test_mistakes_are_found_before_ray_is_touched(project, capsys, monkeypatch, arguments, line):
    monkeypatch.setattr(scheduler, "connected", lambda address: pytest.fail("touched"))
    monkeypatch.setattr(connection, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    assert call(*recipes("a"), *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert started() == []


def test_without_ray_its_package_is_named(project, capsys, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    assert call(*recipes("a"), "--ray") == 2
    assert capsys.readouterr().err == "--ray: Ray is not installed; pip install -r requirements-ray.txt\n"


def test_a_plan_that_is_finished_or_only_printed_does_not_touch_ray(project, capsys, monkeypatch):
    monkeypatch.setattr(scheduler, "connected", lambda address: pytest.fail("touched"))
    monkeypatch.setattr(connection, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    assert call(*recipes("a", "b"), "--seeds", "0", "--ray", "--dry-run") == 0
    assert "1/2  start     runs/a/seed0" in capsys.readouterr().out
    assert call("a.yaml", "--seeds", "0") == 0
    assert call("a.yaml", "--seeds", "0", "--ray") == 0
    assert "all 1 runs are finished" in capsys.readouterr().out


def test_where_nothing_answers_it_says_so_at_once(project, capsys, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    with socket.create_server(("127.0.0.1", 0)) as server:  # a port that is free as soon as it is closed
        port = server.getsockname()[1]
    assert call(*recipes("a"), "--ray", f"127.0.0.1:{port}") == 2
    assert capsys.readouterr().err.startswith(f"--ray 127.0.0.1:{port}: nothing answers there: ")
