"""Telling cannot end working: a console whose reader has gone, a full log disk, a tracker that dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.train_commands import command, newest_state, rows_without_times, run

from hw1.runs.checkpoint import load_state
from hw1.tracking.wandb_tracker import WandbTracker


@pytest.mark.slow
@pytest.mark.parametrize("console", ["reader gone", "full"])
def test_a_run_ends_well_whatever_becomes_of_its_console(recipe: Path, tmp_path: Path, console: str) -> None:
    folder = tmp_path / "tiny" / "seed5"
    arguments = command("train.py", recipe, f"run.dir={tmp_path}")
    if console == "full":
        with open("/dev/full", "wb") as full:
            process = subprocess.Popen(arguments, stdout=full, stderr=full)
    else:
        reading, writing = os.pipe()
        process = subprocess.Popen(arguments, stdout=writing, stderr=writing)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
    assert process.wait(timeout=240) == 0
    assert [row["epoch"] for row in rows_without_times(folder)] == [1, 2]
    assert (folder / "summary.json").is_file()
    assert load_state(newest_state(folder))["progress"]["epoch"] == 2


@pytest.mark.slow
def test_a_closed_terminal_saves_first(recipe: Path, tmp_path: Path) -> None:
    """With a loader process, which its SIGHUP reaches too."""
    signum = signal.SIGHUP
    folder = tmp_path / "tiny" / "seed5"
    arguments = command("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=500", "data.num_workers=1")

    def listen() -> None:
        signal.signal(signum, signal.SIG_DFL)  # the tests may have been started with `nohup`

    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=listen)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signum)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, err
    assert "the same command continues it" in err
    assert "Traceback" not in err
    assert load_state(newest_state(folder))["progress"]["epoch"] >= 1


SAYING = """
import os, sys
from hw1.errors import UserError, run_command
from hw1.utils.console import say, show
from hw1.utils.progress_bar import ProgressBar

def main(argv):
    for step in ProgressBar(range(3), disable=False):
        say("x" * 100_000)
        show("y" * 100_000)
    open(argv[0], "w").close()
    if argv[1:]:
        raise UserError("recipe.yaml: seed: a mistake")

sys.exit(run_command(main, sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [[], ["mistake"]])
@pytest.mark.parametrize("console", ["closed", "full", "busy", "reader gone"])
def test_lines_that_cannot_be_written_change_no_exit_code(tmp_path: Path, console: str, arguments: list[str]) -> None:
    done = tmp_path / "done"
    program = [sys.executable, "-c", SAYING, str(done), *arguments]
    reading, writing = os.pipe()
    os.set_blocking(writing, console != "busy")
    if console == "reader gone":
        os.close(reading)
    with open("/dev/full", "wb") as full:
        stream = full if console == "full" else writing
        shell = ["bash", "-c", 'exec "$@" >&- 2>&-', "bash"] if console == "closed" else []
        code = subprocess.run([*shell, *program], stdout=stream, stderr=stream, cwd=ROOT, timeout=60).returncode
    assert code == (2 if arguments else 0)
    assert done.exists()


@pytest.mark.parametrize("method", ["scalars", "images", "tables", "summary", "finish"])
def test_a_tracker_that_fails_ends_no_run(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """As when wandb's service process has died."""

    class Failing:
        id = "abc"

        def __init__(self, *arguments: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> None:
                if name == method:
                    raise ConnectionResetError("Connection reset by peer")

            return call

    monkeypatch.setattr("hw1.tracking.start.WandbTracker", Failing)
    result = run("train.py", recipe, f"run.dir={tmp_path}", "log.wandb=offline")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("wandb: ConnectionResetError: Connection reset by peer; training goes on without") == 1
    assert json.loads((tmp_path / "tiny/seed5/summary.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_wandbs_service_may_die(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, whose process is killed after the first epoch."""
    import wandb

    real = WandbTracker.scalars

    def scalars(self: Any, values: Any, at: Any) -> None:
        real(self, values, at)
        if at.epoch == 1:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            for child in children:
                if b"wandb" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)

    monkeypatch.setattr(WandbTracker, "scalars", scalars)
    result = run("train.py", recipe, f"run.dir={tmp_path}", "log.wandb=offline", "train.epochs=3")
    with contextlib.suppress(OSError):  # the client's own end may find out that its service is gone
        wandb.teardown()
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in rows_without_times(tmp_path / "tiny/seed5")] == [1, 2, 3]
