"""The pages and files for rented GPUs, tried as far as that goes without one."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helpers.docker_steps import instructions
from helpers.documents import commands_in
from helpers.paths import ROOT

from hw1.config.load import load_recipe

CLOUD = ROOT / "docs/cloud"
BIN = Path(sys.executable).parent
SCRIPTS = [*ROOT.glob("docs/**/*.sh"), CLOUD / "slurm.sbatch", ROOT / ".ci/run"]
PAGES = [*SCRIPTS, *CLOUD.glob("*.yaml"), ROOT / "Dockerfile"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_recipe_and_key_in_a_page_is_one_of_the_project(page):
    for recipe, overrides in commands_in(page.read_text()):
        load_recipe(ROOT / recipe, overrides)


# -------------------------------------------------------------------------------------------------------------- scripts


def write_command(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("codes", "times"), [("0", 1), ("2", 1), ("143", 1), ("3 1 0", 3), ("3 137 2", 3)])
def test_keep_on_starts_again_after_a_failure_but_not_after_a_mistake(folder, codes, times):
    write_command(folder, "trainer", f'echo "$@" >> said; codes=({codes}); exit "${{codes[$(($(wc -l < said) - 1))]}}"')
    command = ["bash", str(CLOUD / "keep_on.sh"), "./trainer", "a b"]
    done = subprocess.run(command, env={**os.environ, "HW1_PAUSE": "0"}, timeout=60)
    assert done.returncode == int(codes.split()[-1])
    assert (folder / "said").read_text() == "a b\n" * times


@pytest.fixture
def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for Slurm's commands and for Python, which ends with the code in `code`."""
    write_command(folder / "bin", "srun", '"$@"')
    write_command(folder / "bin", "scontrol", f'echo "$@" >> {folder}/requeued')
    write_command(folder / ".venv/bin", "python", f'echo "$@" >> {folder}/trained; sleep "$(cat pause)"; exit "$(cat code)"')
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "pause").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "41")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    return folder


BATCH = ["bash", str(CLOUD / "slurm.sbatch"), "recipes/finetune.yaml", "data.root=/my data"]


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (3, False), (143, True)])
def test_a_task_of_slurm_is_queued_again_when_it_was_stopped_and_only_then(cluster, code, requeued):
    (cluster / "code").write_text(str(code))
    assert subprocess.run(BATCH, timeout=60).returncode == code
    assert (cluster / "trained").read_text() == "train.py recipes/finetune.yaml data.root=/my data seed=3\n"
    assert (cluster / "requeued").exists() == requeued
    if requeued:
        assert (cluster / "requeued").read_text() == "requeue 41_3\n"


def test_the_shell_of_a_task_outlives_the_signal_that_preempts_it(cluster):
    (cluster / "code").write_text("143")
    (cluster / "pause").write_text("1")
    process = subprocess.Popen(BATCH)
    while not (cluster / "trained").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert (cluster / "requeued").exists()


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1)])
def test_several_gpus_of_a_task_are_trained_on_by_torchrun(cluster, monkeypatch, code, expected):
    (cluster / "code").write_text("0")  # of the look at the recipe
    write_command(cluster / ".venv/bin", "torchrun", f'echo "$@" > launched; exit {code}')
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert subprocess.run(BATCH, timeout=60).returncode == expected
    said = "--standalone --nproc-per-node 2 train.py recipes/finetune.yaml data.root=/my data seed=3\n"
    assert (cluster / "launched").read_text() == said
    (cluster / "launched").unlink()
    (cluster / "code").write_text("2")
    assert subprocess.run(BATCH, timeout=60).returncode == 2
    assert not (cluster / "launched").exists()


def test_a_signal_that_stops_torchrun_is_the_exit_code(cluster, monkeypatch):
    """As srun sends it to every process of the step; torchrun itself ends with 1."""
    (cluster / "code").write_text("0")
    write_command(cluster / ".venv/bin", "torchrun", "trap 'exit 1' TERM; touch launched; sleep 30 & wait")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    process = subprocess.Popen(BATCH, start_new_session=True)
    while not (cluster / "launched").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert (cluster / "requeued").exists()


def test_the_script_for_ssh_explains_itself():
    text = (CLOUD / "ssh.sh").read_text()
    for arguments in ([], ["host"], ["host", "start", "images"], ["host", "begin"]):
        done = subprocess.run(["bash", CLOUD / "ssh.sh", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        lines = done.stderr.splitlines()[-len(re.findall("(?m)^# ", text)) :]
        assert all(f"# {line}" in text for line in lines)
        assert sum("docs/cloud/ssh.sh HOST" in line for line in lines) == 4


def test_slurm_tells_the_training_before_the_limit_and_keeps_the_log():
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", (CLOUD / "slurm.sbatch").read_text(), re.MULTILINE)
    assert len(options) == len(re.findall(r"^#SBATCH", (CLOUD / "slurm.sbatch").read_text(), re.MULTILINE))
    found = dict(options)
    assert re.fullmatch(r"TERM@\d+", found["signal"])  # without B: it goes to the steps, not to the shell alone
    assert "requeue" in found
    assert found["open-mode"] == "append"
    assert "%a" in found["output"]


@pytest.mark.skipif(not (shutil.which("rsync") and shutil.which("tmux")), reason="no rsync or tmux on this machine")
def test_a_machine_behind_ssh_gets_project_images_and_command_and_gives_its_runs_back(folder, monkeypatch):
    here, there = folder / "here", folder / "there"
    write_command(folder / "bin", "ssh", f'shift; cd {there}; export HOME={there}; exec bash -c "$*"')
    write_command(folder / "bin", "make", 'echo "make $*" >> said')
    for name in ("ssh.sh", "keep_on.sh", "train.sh"):
        (here / "docs/cloud").mkdir(parents=True, exist_ok=True)
        shutil.copy(CLOUD / name, here / "docs/cloud")
    (here / "images/train").mkdir(parents=True)
    (here / "images/train/a.jpg").touch()
    (here / "runs/old").mkdir(parents=True)
    (here / "train.py").touch()
    write_command(
        there / "hw1/.venv/bin",
        "python",
        'printf "%s|" "$HW1_COMMIT" "$@" >> said; mkdir -p runs/a; touch runs/a/x; sleep 30 & wait; exit 0',
    )
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    monkeypatch.delenv("TMUX", raising=False)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["bash", "docs/cloud/ssh.sh", "host", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60)

    start = ["start", "images", "recipes/finetune.yaml", "run.name=it's mine"]
    try:
        done = run(*start)
        assert done.returncode == 0, done.stdout + done.stderr
        while not (there / "hw1/runs/a/x").exists():
            time.sleep(0.05)
        assert (there / "hw1/said").read_text() == "make install\n|train.py|recipes/finetune.yaml|data.root=data/own|run.name=it's mine|"
        assert (there / "hw1/data/own/train/a.jpg").exists()
        assert not (there / "hw1/runs/old").exists()
        again = run(*start)
        assert again.returncode == 1
        assert "runs there already" in again.stderr
        assert run("fetch").returncode == 0
        assert sorted(path.name for path in (here / "runs").iterdir()) == ["a", "old"]
        assert run("stop").returncode == 0
        while subprocess.run(["tmux", "has-session"], capture_output=True).returncode == 0:
            time.sleep(0.05)
        assert (there / "hw1/train.log").exists()
    finally:
        subprocess.run(["tmux", "kill-server"], stderr=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------- Kubernetes, SkyPilot


@pytest.fixture
def resources() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((CLOUD / "kubernetes.yaml").read_text()))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in documents}


def test_the_resources_are_by_kubernetes_own_schemas(resources):
    for each in resources.values():
        kubernetes_validate.validate(each, "1.30", strict=True)
    job = resources["Job/hw1"]
    job["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.30", strict=True)


def test_the_pod_that_fills_the_claim_is_sound_too(resources):
    pod = yaml.safe_load((CLOUD / "kubernetes-fill.yaml").read_text())
    kubernetes_validate.validate(pod, "1.30", strict=True)
    [volume] = pod["spec"]["volumes"]
    assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in resources
    assert pod["spec"]["securityContext"] == resources["Job/hw1"]["spec"]["template"]["spec"]["securityContext"]


def test_the_job_fits_the_image_and_its_claims(resources):
    pod = resources["Job/hw1"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    recipe, *overrides = container["args"]
    assert load_recipe(ROOT / recipe, overrides).data.root == "/data"
    [several] = re.findall(r"# args: \[(.*)\]", (CLOUD / "kubernetes.yaml").read_text())
    launcher, _, more = several.partition(", train.py, ")
    assert launcher == 'torchrun, --nproc-per-node, "2"'
    assert more.split(", ") == container["args"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume}
    assert {f"PersistentVolumeClaim/{name}" for name in claims} == resources.keys() - {"Job/hw1"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    steps = instructions()
    made = next(value for name, value in steps if name == "RUN" and value.startswith("mkdir"))
    assert {path for path in mounts.values() if path != "/dev/shm"} <= set(made.split())
    security = pod["securityContext"]
    assert dict(steps)["USER"] == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert pod["restartPolicy"] == "Never"  # what podFailurePolicy asks for
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_skypilots_task_trains_from_and_to_the_folders_it_mounts():
    task = yaml.safe_load((CLOUD / "skypilot.yaml").read_text())
    assert task.keys() <= {"name", "resources", "workdir", "file_mounts", "envs", "setup", "run", "num_nodes"}
    [line] = task["run"].strip().splitlines()
    assert line.startswith("GPUS=$SKYPILOT_NUM_GPUS_PER_NODE ")
    words = [word.replace("$RECIPE", task["envs"]["RECIPE"]) for word in shlex.split(line)]
    folder = str(CLOUD.relative_to(ROOT))
    assert words[2:5] == [f"{folder}/keep_on.sh", "bash", f"{folder}/train.sh"]
    recipe, *overrides = words[5:]
    loaded = load_recipe(ROOT / recipe, overrides)
    assert {loaded.data.root, loaded.run.dir} == task["file_mounts"].keys()
    assert task["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    assert task["resources"]["use_spot"]
