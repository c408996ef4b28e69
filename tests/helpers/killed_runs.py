"""A run that kill -9 ends and the same command continues, beside one that nothing stopped."""

import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from faults.processes import start

from helpers.train_commands import TIMES, assert_equal, newest_state, rows_without_times, run
from hw1.runs.folder import RunFolder


def assert_killed_run_ends_like(finished: Path, folder: Path, output: Path, arguments: Sequence[object]) -> None:
    """kill -9 at the second epoch's first step, then the same command to the end: state and metrics are those of the `finished` run.

    Args:
        finished: Run folder of a run that nothing stopped.
        folder: Run folder that the command writes.
        output: File for what the killed process prints.
        arguments: Of train.py; they save every step.
    """
    process = start(output, "train", *arguments)
    process.wait_until(lambda: any(path.name >= "epoch0001-step000001" for path in RunFolder(folder).state_files()))
    process.kill()
    assert process.code == -signal.SIGKILL, process.output
    result = run("train.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert "continues in epoch" in result.stderr
    assert_equal(*(torch.load(newest_state(each), weights_only=True) for each in (folder, finished)), but=TIMES)
    assert rows_without_times(folder) == rows_without_times(finished)
