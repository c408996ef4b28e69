"""Where hw1 cannot run it says so in one line: without fcntl (Windows), and of a Python that it is not tested with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

COMMANDS = [["-c", "import hw1"], ["-m", "hw1", "--help"], ["-m", "hw1", "train", "debug"], ["-m", "hw1.predict"], ["train.py", "debug"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_platform_without_fcntl_is_told_what_to_do(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fcntl'] = None\n")  # an import of it then fails
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hw1: needs Linux or macOS; on Windows it runs inside WSL2: https://learn.microsoft.com/windows/wsl/install\n"


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
@pytest.mark.parametrize(("version", "is_taken"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)])
def test_make_checks_the_python_before_it_installs(version: tuple[int, int], is_taken: bool, folder: Path) -> None:
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.txt", "requirements.lock"):
        (folder / name).touch()
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
    lines = ["#!/bin/sh", 'echo "$1" "$2" | head -n 1 >> called', f'[ "$1" = -c ] && exec {sys.executable} -c "{code}" "$@"', "exit 1"]
    (folder / "python").write_text("\n".join(lines) + "\n")
    (folder / "python").chmod(0o755)
    env = {**os.environ, "PATH": "/usr/bin:/bin"}  # without uv
    done = subprocess.run(["make", "install", "PYTHON=./python"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert ("-m venv" in (folder / "called").read_text()) == is_taken
    assert (f"is Python 3.{version[1]}; hw1 is tested with 3.11 and 3.12: make PYTHON=python3.12 names another" in done.stderr) != is_taken
