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
from helpers.paths import ROOT

from hw1.config.load import load_recipe

CLOUD = ROOT / "docs/cloud"
BIN = Path(sys.executable).parent
SCRIPTS = [*ROOT.glob("docs/**/*.sh"), CLOUD / "slurm.sbatch", ROOT / ".ci/run"]
PAGES = [ROOT / "docs/guide/docker.md", ROOT / "docs/guide/offline.md", CLOUD / "README.md", *SCRIPTS, *CLOUD.glob("*.yaml"), ROOT / "Dockerfile"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """(recipe, overrides) of every line that names a recipe of this project."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = re.findall(r"[^\s\[\]`'\"]+", line)
        recipes = [word for word in words if re.fullmatch(r"recipes/\w+\.yaml", word.removeprefix("RECIPE="))]
        overrides = [word.rstrip(",;:)") for word in words if re.match(r"[a-z_]+\.[a-z_]+=|seed=", word) and word != "section.key=value"]
        found += [(recipe.removeprefix("RECIPE="), overrides) for recipe in recipes]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_recipe_and_key_in_a_page_is_one_of_the_project(page):
    for recipe, overrides in commands_in(page.read_text()):
        load_recipe(ROOT / recipe, overrides)


def test_the_reader_of_pages_finds_commands():
    found = commands_in((CLOUD / "README.md").read_text())
    assert ("recipes/finetune.yaml", ["train.epochs=14"]) in found
    assert any(commands_in((ROOT / "docs/guide/docker.md").read_text()))


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
    for name in ("ssh.sh", "keep_on.sh"):
        (here / "docs/cloud").mkdir(parents=True, exist_ok=True)
        shutil.copy(CLOUD / name, here / "docs/cloud")
    (here / "pictures/train").mkdir(parents=True)
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

    start = ["start", "pictures", "recipes/finetune.yaml", "run.name=it's mine"]
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


def test_the_job_fits_the_image_and_its_claims(resources):
    pod = resources["Job/hw1"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    recipe, *overrides = container["args"]
    assert load_recipe(ROOT / recipe, overrides).data.root == "/data"
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
    words = [word.replace("$RECIPE", task["envs"]["RECIPE"]) for word in shlex.split(line)]
    assert Path(words[1]) == CLOUD.relative_to(ROOT) / "keep_on.sh"
    recipe, *overrides = words[words.index("train.py") + 1 :]
    loaded = load_recipe(ROOT / recipe, overrides)
    assert {loaded.data.root, loaded.run.dir} == task["file_mounts"].keys()
    assert task["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    assert task["resources"]["use_spot"]
