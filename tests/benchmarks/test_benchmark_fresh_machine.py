"""`benchmarks.fresh_machine` on a project whose Makefile takes a second, not minutes."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.fresh_machine import disk_mebibytes, main
from hw1.errors import run_command

MAKEFILE = """install:
\tmkdir .venv && dd if=/dev/zero of=.venv/file bs=1M count=3 && ln .venv/file .venv/again && ls "$$XDG_CACHE_HOME" || true
run:
	@test -s .venv/file && sleep 0.3 && echo "model: tiny" >&2
	@sleep 0.3 && echo "epoch 1/2  train" >&2
	@sleep 0.3 && echo "epoch 2/2  train" >&2
"""


def test_install_and_run_are_timed_in_a_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project, out = tmp_path / "project", tmp_path / "result.json"
    project.mkdir()
    (project / "Makefile").write_text(MAKEFILE)
    for words in (["init", "-q"], ["add", "Makefile"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Makefile"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    assert run_command(main, ["--source", str(project), "--out", str(out)]) == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    wall = {name: row["wall"] for name, row in result["seconds"].items()}
    assert list(wall) == ["install end", "run first line", "run first epoch", "run end"]
    assert 0 < wall["run first line"] < wall["run first epoch"] < wall["run end"] < 60
    assert result["installed_mib"] == 3
    assert result["complete"]
    assert str(tmp_path) not in out.read_text()
    assert not (project / ".venv").exists()
    assert "| make run: its first epoch | " in capsys.readouterr().out


def test_what_is_no_repository_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["--source", str(tmp_path)]) == 2
    assert "is no git repository" in capsys.readouterr().err


def test_a_file_of_two_names_is_on_the_disk_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 2**20)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert disk_mebibytes(tmp_path) == pytest.approx(1, abs=0.1)
