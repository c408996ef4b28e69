"""Plans of runs on a real Ray cluster: two nodes of one core each on this machine."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.plan_runs import Ablation, call, is_alive, recipes, runs_of, started, wait_until
from helpers.train_commands import TIMES, assert_equal, newest_state, rows_without_times, run, write_recipe

from hw1.ablate.ray_cluster import scheduler
from hw1.ablate.ray_cluster.connection import connected
from hw1.ablate.ray_cluster.nodes import Requirements, check_nodes, list_nodes
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.runs import environment
from hw1.runs.environment import code_digest

pytestmark = pytest.mark.slow
MEMORY = 80 * 2**20  # of the object store, through which nothing passes
SETTINGS = {
    "RAY_AUTH_MODE": "disabled",  # no token in the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "1000",  # else a dead node is noticed after half a minute
    "RAY_health_check_period_ms": "500",
    "RAY_worker_niceness": "0",  # else trainings crawl beside anything else
}


class Cluster:
    """Two nodes, "one" (which commands connect to) and "two", each a raylet with processes of its own."""

    def __init__(self) -> None:
        from ray import cluster_utils

        self.nodes = {}
        self.cluster = cluster_utils.Cluster()
        self.complete()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def complete(self) -> None:
        """Starts the nodes that are not there, or were killed; Ray takes a killed one for alive, and gives it work, for seconds more."""
        for name in ("one", "two"):
            if name in self.nodes and self.raylet(name).poll() is not None:
                self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)
            if name not in self.nodes:
                self.nodes[name] = self.cluster.add_node(node_name=name, num_cpus=1, object_store_memory=MEMORY, include_dashboard=False)
        self.cluster.wait_for_nodes()

    def raylet(self, name: str) -> subprocess.Popen[bytes]:
        return self.nodes[name].all_processes["raylet"][0].process


@pytest.fixture(scope="module")
def ray_settings() -> Iterator[None]:
    """Ray's files in a folder of their own (with a short name: sockets are in it); skips where there is no Ray."""
    folder = tempfile.mkdtemp(prefix="ray-")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, "RAY_TMPDIR": folder, "XDG_CACHE_HOME": f"{folder}/cache"}.items():
            patch.setenv(name, value)  # some are read when Ray is imported
        pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole_cluster(ray_settings: None) -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.cluster.shutdown()


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Cluster:
    whole_cluster.complete()
    return whole_cluster


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Puts the handler back that Ray replaces when it is used in this process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def worker_of(pid: int) -> int:
    """The process of Ray that started this training."""
    worker = parent(pid)
    assert Path(f"/proc/{worker}/cmdline").read_text().startswith("ray::")
    return worker


def training_on(cluster: Cluster, node: str, recipe: Path) -> int:
    """Process number of the training that runs there."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            if words[1:5] == ["-m", "hw1", "train", str(recipe)] and parent(parent(int(folder.name))) == cluster.raylet(node).pid:
                return int(folder.name)
    raise AssertionError(f"nothing runs on {node}")


def test_runs_go_on_whatever_fails_save_after_a_signal_and_are_skipped_or_continued_by_the_same_command(begin, cluster):
    arguments = (*recipes("a", "fails", "crashes", "slow"), "--seeds", "0", "--ray", "auto")
    ablation = begin(*arguments)
    ablation.wait_for_child(4)
    wait_until(Path("runs/a/seed0/summary.json").is_file)
    ablation.process.send_signal(signal.SIGINT)
    code, err = ablation.end()
    assert code == 130, err
    lines = err.splitlines()
    assert "4 runs: 0 finished, 0 to continue, 4 to start; 2 at once, each with 1 core" in lines
    assert lines[-1] == "interrupted; 3 of 4 runs are not finished, the same command continues"
    assert {line.rpartition(" node ")[2] for line in lines if ": on node " in line} == {"one", "two"}
    for name in ("a", "fails", "crashes", "slow"):
        assert any(line.startswith(f"({name} seed0 pid=") and f" runs/{name}/seed0: on node " in line for line in lines)
    assert sorted(runs_of(started()[:4])) == [("a", 0), ("crashes", 0), ("fails", 0), ("slow", 0)]
    assert {tuple(line["cores"]) for line in started()} == {("1", "1")}
    assert [(line["name"], line["saved"]) for line in started()[4:]] == [("slow", signal.SIGTERM)]
    code, err = begin(*arguments).end()
    assert code == 3, err
    lines = err.splitlines()
    assert "4 runs: 1 finished, 1 to continue, 2 to start; about 2 min left; 2 at once, each with 1 core" in lines
    assert sorted((line["name"], line["status"]) for line in started()[5:]) == [
        ("crashes", "new"),
        ("fails", "new"),
        ("slow", "interrupted"),
    ]
    assert lines[-3] == "2 of 4 runs failed; the same command tries them again:"
    failed = {line.partition(" (node ")[0] for line in lines[-2:]}
    assert failed == {"runs/fails/seed0: exit code 3", "runs/crashes/seed0: killed by SIGKILL"}
    assert [path.name for path in Path("runs").iterdir() if path.name.startswith(".")] == []


def test_runs_save_when_the_command_is_killed_outright(begin, cluster):
    ablation = begin(*recipes("slow"), "--seeds", "0", "--ray", cluster.address)
    pid = ablation.wait_for_child()
    ablation.process.kill()
    wait_until(lambda: not is_alive(pid))
    assert [line.get("saved") for line in started()] == [None, signal.SIGTERM]


def test_without_an_address_in_a_ray_of_its_own_runs_that_are_lost_go_on_once_the_former_process_has_let_go(begin, ray_settings):
    """Both stand-ins hold their folders for three seconds after SIGTERM."""
    ablation = begin(*recipes("lingers"), "--seeds", "0", "1", "--ray", "--cpus-per-run", "1")
    ablation.wait_for_child(2)
    pids = {line["seed"]: line["pid"] for line in started()}
    worker = worker_of(pids[0])
    raylet = parent(worker)
    os.kill(worker, signal.SIGKILL)
    os.kill(pids[1], signal.SIGTERM)  # by another than the command, as when the machine is taken away
    code, err = ablation.end()
    assert code == 0, err
    assert "runs/lingers/seed1: ended by a signal, though not by this command (node " in err
    for seed in (0, 1):
        assert err.count(f"runs/lingers/seed{seed}: on node ") == 2
        lines = [line for line in started() if line["seed"] == seed]
        assert [(line["status"], line.get("saved")) for line in lines] == [("new", None), ("new", 15), ("interrupted", None)]
    wait_until(lambda: not is_alive(raylet))


def test_a_run_that_is_lost_again_and_again_fails(cluster, project, capsys, monkeypatch):
    monkeypatch.setattr(scheduler, "MAX_RETRIES", 1)
    monkeypatch.setattr(environment, "__file__", str(project / "hw1" / "runs" / "environment.py"))  # the nodes' code, with the stand-in
    with handlers_restored():
        assert call(*recipes("ended", "kills"), "--seeds", "0", "--ray", cluster.address) == 3
    assert sorted(runs_of(started())) == [("ended", 0)] * 2 + [("kills", 0)] * 2
    err = capsys.readouterr().err.splitlines()
    assert err[-3] == "2 of 2 runs failed; the same command tries them again:"
    problems = sorted(err[-2:])
    assert problems[0].startswith("runs/ended/seed0: EndedBySignal: not by this command (node ")
    assert problems[1].startswith("runs/kills/seed0: WorkerCrashedError: ")


@pytest.mark.long
def test_a_run_whose_machine_vanishes_without_a_word_goes_on(begin, cluster, monkeypatch):
    """A stopped machine answers no more than one without a network; the connections to it stay open."""
    for setting in ("time", "timeout"):
        monkeypatch.setenv(f"RAY_grpc_client_keepalive_{setting}_ms", "5000")
    ablation = begin(*recipes("slow"), "--seeds", "0", "1", "--ray", cluster.address)
    checkpoints = [Path(f"runs/slow/seed{seed}/checkpoints") for seed in (0, 1)]
    wait_until(lambda: all(folder.is_dir() for folder in checkpoints))
    workers = {worker_of(line["pid"]): line for line in started()}
    raylet = cluster.raylet("two").pid
    [worker] = [worker for worker in workers if parent(worker) == raylet]
    lost = workers.pop(worker)
    [other] = workers.values()
    try:
        os.kill(raylet, signal.SIGSTOP)
        os.kill(worker, signal.SIGSTOP)
        os.kill(lost["pid"], signal.SIGKILL)
        (checkpoints[lost["seed"]] / "epoch0000-step000001.pt").touch()  # within the first epoch, which has no metrics yet
        os.kill(other["pid"], signal.SIGTERM)  # makes room
        code, err = ablation.end()
    finally:
        for pid in (raylet, worker):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert code == 0, err
    assert [(line["seed"], line["status"]) for line in started()[-1:]] == [(lost["seed"], "interrupted")]


def test_what_a_node_does_not_share_is_said_with_its_name(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # from where the nodes import the package
    (tmp_path / "probe").touch()
    good = Requirements(str(tmp_path), code_digest(), (str(tmp_path / "probe"),), (".",))
    bad = Requirements(str(tmp_path), "other", (str(tmp_path / "unseen"),), ("nowhere",))
    with handlers_restored(), connected(cluster.address) as ray:
        nodes = list_nodes(ray)
        assert [(node.name, node.cpus, node.gpus) for node in sorted(nodes, key=lambda node: node.name)] == [("one", 1, 0), ("two", 1, 0)]
        check_nodes(ray, nodes, good)
        with pytest.raises(UserError) as caught:
            check_nodes(ray, nodes, bad)
    assert sorted(caught.value.problems) == [
        f"node {name}: {problem}"
        for name in ("one", "two")
        for problem in (
            f"{tmp_path}: not shared: a file written there is not seen",
            "data.root: nowhere: no such folder there",
            "this project's code there is not the same as here",
        )
    ]


@pytest.mark.long
def test_killed_worker_and_killed_node_leave_the_bits_of_runs_that_nothing_happened_to(cluster, tmp_path):
    """The real trainings, one of which loses its worker and the other its node; both are continued."""
    draw_shapes(tmp_path / "shapes", 2)
    recipe = write_recipe(tmp_path, tmp_path / "shapes")
    changes = ("model.name=resnet18_half_cbam", "train.epochs=12")  # so that neither is done before its node is gone
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as runs with one core have it
    try:
        for seed in (0, 1):
            result = run("train.py", recipe, *changes, f"seed={seed}", f"run.dir={tmp_path / 'alone'}")
            assert result.returncode == 0, result.stderr
    finally:
        torch.set_num_threads(threads)
    metrics = [tmp_path / "runs" / "tiny" / f"seed{seed}" / "metrics.jsonl" for seed in (0, 1)]
    ablation = Ablation(str(recipe), *changes, "--seeds", "0", "1", "--ray", cluster.address)
    try:
        wait_until(lambda: ablation.process.poll() is not None or all(path.is_file() for path in metrics))
        os.kill(worker_of(training_on(cluster, "one", recipe)), signal.SIGKILL)
        training = training_on(cluster, "two", recipe)
        cluster.raylet("two").kill()
        wait_until(lambda: not is_alive(training))
    except BaseException:
        ablation.process.kill()
        raise
    finally:
        code, err = ablation.end()
    assert code == 0, err
    assert err.count(": on node ") == 4
    assert err.count("continues in epoch") == 2
    for path in metrics:
        run_folder, other = path.parent, tmp_path / "alone" / "tiny" / path.parent.name
        assert rows_without_times(run_folder) == rows_without_times(other)
        states = [torch.load(newest_state(folder), weights_only=True) for folder in (run_folder, other)]
        assert_equal(*states, but=TIMES)
