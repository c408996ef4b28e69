"""The metrics of single optimizer steps: `steps.jsonl`, from which a continued run tells trackers again what a killed process told them."""

import json
from contextlib import suppress
from typing import NotRequired, TypedDict, cast

from hw1.runs.folder import RunFolder
from hw1.utils.files import write_atomic


class StepMetrics(TypedDict):
    """What is read at the log interval."""

    step: int
    """Optimizer steps of the run so far."""
    loss: float
    """Mean over the images since the interval before, nats."""
    lr: float
    grad_norm: NotRequired[float]
    """L2 norm of the whole gradient, before clipping; not known in fp16 without `optim.clip_grad`."""


def read_steps(run: RunFolder) -> list[StepMetrics]:
    """Read the steps in order, each once; what is damaged, as the last line of a killed process, is passed over."""
    lines: list[bytes] = []
    with suppress(OSError):
        lines = run.steps_jsonl.read_bytes().splitlines()
    rows: dict[int, StepMetrics] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            rows[int(row["step"])] = cast(StepMetrics, {**row, "loss": float(row["loss"]), "lr": float(row["lr"])})
    return [rows[step] for step in sorted(rows)]


def keep_steps(run: RunFolder, num_steps: int) -> list[StepMetrics]:
    """Drop the steps after `num_steps`, which are done again; return the others."""
    rows = [row for row in read_steps(run) if row["step"] <= num_steps]
    write_atomic(run.steps_jsonl, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return rows


def append_step(run: RunFolder, row: StepMetrics) -> None:
    """Write a step at the end of the file, where it stays when the process is killed."""
    with run.steps_jsonl.open("a") as file:
        file.write(json.dumps(row) + "\n")
