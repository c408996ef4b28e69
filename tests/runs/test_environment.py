"""What env.json holds, and what it must not."""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT

from hw1.runs.environment import describe_environment

SECRET = "c4n4ry-hunter2"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def copy_code(folder: Path) -> None:
    (folder / "hw1" / "runs").mkdir(parents=True)
    for name in ("__init__.py", "runs/__init__.py", "runs/environment.py"):
        shutil.copy(ROOT / "hw1" / name, folder / "hw1" / name)


def describe(folder: Path, **environment: str) -> dict[str, Any]:
    """What the copy of the code in `folder` says, asked from another folder."""
    code = "import json; from hw1.runs.environment import describe_environment; print(json.dumps(describe_environment('cpu')))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"PYTHONPATH": str(folder), **environment}
    done = subprocess.run([sys.executable, "-c", code, SECRET], cwd="/", env=env, capture_output=True, text=True, check=True, timeout=60)
    assert SECRET not in done.stdout
    return json.loads(done.stdout)


def test_versions_and_hardware_are_the_real_ones():
    found = json.loads(json.dumps(describe_environment("NVIDIA H200")))
    assert found["device"] == "NVIDIA H200"
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["timm"] == version("timm")
    assert found["cpu_count"] == os.cpu_count()
    assert found["cpu"]
    assert 0.1 < found["memory_gib"] < 100_000
    assert found["started"].endswith("+00:00")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    copy_code(folder)
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", f"https://user:{SECRET}@example.org/x.git")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", SECRET)
    return folder


def test_the_commit_and_whether_the_code_was_changed(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert describe(repository)["git"] == {"commit": commit, "modified": False}
    (repository / "notes.txt").write_text(SECRET)  # an untracked file changes nothing
    assert describe(repository, HW1_TOKEN=SECRET, WANDB_API_KEY=SECRET)["git"] == {"commit": commit, "modified": False}
    with open(repository / "hw1/__init__.py", "a") as file:
        file.write("# changed\n")
    assert describe(repository)["git"] == {"commit": commit, "modified": True}


def test_without_git_or_a_commit_there_is_no_state(repository, tmp_path):
    assert describe(repository, PATH="/nowhere")["git"] is None
    copy_code(tmp_path / "plain")
    assert describe(tmp_path / "plain", GIT_CEILING_DIRECTORIES=str(tmp_path))["git"] is None
    git(tmp_path / "plain", "init", "--quiet")
    git(tmp_path / "plain", "add", ".")
    assert describe(tmp_path / "plain")["git"] is None  # nothing is committed yet


@pytest.mark.parametrize(
    ("stated", "state"),
    [
        ("0123abc", {"commit": "0123abc", "modified": False}),
        (f"{'0123456789' * 4}-dirty", {"commit": "0123456789" * 4, "modified": True}),
        (f"{SECRET} 0123abc", None),
        ("", None),
    ],
)
def test_where_there_is_no_checkout_the_docker_image_states_the_commit(tmp_path, stated, state):
    copy_code(tmp_path / "plain")
    assert describe(tmp_path / "plain", GIT_CEILING_DIRECTORIES=str(tmp_path), HW1_COMMIT=stated)["git"] == state


def test_a_checkout_knows_better_than_the_environment(repository):
    assert describe(repository, HW1_COMMIT="0123abc")["git"]["commit"] == git(repository, "rev-parse", "HEAD")


def test_an_installed_copy_does_not_claim_the_commit_of_the_repository_around_it(repository):
    installed = repository / ".venv/lib/site-packages"
    copy_code(installed)
    assert describe(installed)["git"] is None
