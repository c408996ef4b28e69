"""The commands that the program prints work as typed: from a checkout, from elsewhere, with and without an activated environment."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT

PROGRAM = "from hw1.utils.own_command import hw1_command; print(hw1_command())"


def make_environment(folder: Path) -> Path:
    """An environment whose Python is this one by a link, as in a venv, and what `pip install` puts beside it."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text(f'#!/bin/sh\nexec -a "$0" {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def printed(cwd: Path, path: str, **variables: str) -> str:
    """The command that a process prints there, which then really answers there."""
    env = {**os.environ, "PATH": path, **variables}
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.executable = {variables.get('PYTHON', sys.executable)!r}; {PROGRAM}"
    out = subprocess.run([sys.executable, "-c", program], cwd=cwd, env=env, capture_output=True, text=True, check=True, timeout=60)
    command = out.stdout.strip()
    answer = subprocess.run(["sh", "-c", f"{command} --version"], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert answer.stdout.startswith("hw1 "), (command, answer.stderr)
    return command


def test_in_a_checkout_whose_environment_is_not_activated():
    relative = os.path.relpath(sys.executable, ROOT)
    shown = sys.executable if relative.startswith("..") else relative
    assert printed(ROOT, "/usr/bin:/bin") == f"{shown} -m hw1"


def test_in_a_checkout_whose_environment_is_activated(tmp_path):
    python = make_environment(tmp_path / "venv")
    assert printed(ROOT, f"{python.parent}:/usr/bin:/bin", PYTHON=str(python)) == "python -m hw1"


def test_another_python_on_the_path_is_not_taken_for_this_one(tmp_path):
    other = make_environment(tmp_path / "other")
    own = make_environment(tmp_path / "own env")
    assert printed(ROOT, f"{other.parent}:/usr/bin:/bin", PYTHON=str(own)) == f"'{own}' -m hw1"


def test_where_the_package_is_installed_it_is_the_short_command(tmp_path):
    python = make_environment(tmp_path / "venv")
    script = python.with_name("hw1")
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m hw1 "$@"\n')
    script.chmod(0o755)
    assert printed(tmp_path, f"{python.parent}:/usr/bin:/bin", PYTHON=str(python)) == "hw1"


def test_from_elsewhere_a_checkout_is_named(tmp_path):
    command = printed(tmp_path, "/usr/bin:/bin")
    assert command == f"PYTHONPATH={ROOT} {sys.executable} -m hw1" or os.path.exists(os.path.join(os.path.dirname(sys.executable), "hw1"))
