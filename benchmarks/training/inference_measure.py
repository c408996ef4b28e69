"""Evaluation at several batch sizes: the same logits, then speed in turns, and memory."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.training.case import Case, make_batches
from benchmarks.training.device import DeviceMemory, release_memory
from benchmarks.training.own_process import OwnProcess, ThisProcess, start
from benchmarks.training.same import FP32_TOLERANCE
from benchmarks.training.tables import case_name
from benchmarks.training.turns import compare, fastest, time_turns
from benchmarks.training.validation import LABELS, PEERS, build_validation, why_not
from hw1.data.loader.base import Batch
from hw1.utils.text import one_line

LOW_PRECISION_TOLERANCE = 0.1
"""Relative L2 difference of logits that bf16 may make in a hundred layers."""


@dataclass(frozen=True)
class Amounts:
    images: int = 512
    """In a turn: one evaluation, of at least one batch. Random images, of which a batch is used again and again."""
    rounds: int = 5
    own_processes: bool = True
    """On the CPU, each way in one."""


def measure_inference(
    case: Case, sizes: Sequence[int], keys: Sequence[str], device: torch.device, amounts: Amounts, blocks: list[dict[str, Any]],
    save: Callable[[], None], *, until: float = float("inf"),
) -> None:  # fmt: skip
    """Appends a block for every batch size: `results` with ratios to `timm` (the fastest of its ways) and `plain`, `memory_mib`.

    `ready_seconds` is what each way takes before it is warm, which no rate counts: it fuses or compiles.
    """
    for size in sizes:
        one = replace(case, batch=size)
        block: dict[str, Any] = {
            "case": one.describe(),
            "labels": {key: LABELS[key] for key in keys},
            "left_out": {key: reason for key in keys if (reason := why_not(key, device))},
            "failed": {},
            "memory_mib": {},
            "ready_seconds": {},
            "results": {},
        }
        blocks.append(block)
        _measure_size(one, [key for key in keys if key not in block["left_out"]], device, amounts, block, save, until)


def _measure_size(
    case: Case, keys: Sequence[str], device: torch.device, amounts: Amounts, block: dict[str, Any], save: Callable[[], None], until: float
) -> None:
    print(f"{case}: evaluation", file=sys.stderr, flush=True)
    turns: dict[str, OwnProcess | ThisProcess] = {}
    reference: NDArray[np.float32] | None = None
    for key in keys:
        try:
            turn = start(EvaluationTurn, key, case, device, amounts.images, apart=amounts.own_processes, device=device)
            turns[key] = turn
            logits = turn.ask("logits")
            reference = logits if reference is None else reference
            _assert_same(logits, reference, case.dtype(device))
            block["ready_seconds"][key] = turn.ask("ready_seconds")
            if peak := turn.peak_memory():
                block["memory_mib"][key] = peak
        except Exception as error:  # another's compiler may fail in any way
            if key in turns:
                turns.pop(key).close()
            block["failed"][key] = one_line(error)

    def keep(rates: dict[str, list[float]]) -> None:
        candidates = {"timm": fastest(rates, [key for key in PEERS if key.startswith("timm/")]), "plain": fastest(rates, ["plain"])}
        block["results"] = compare(rates, {name: key for name, key in candidates.items() if key})
        save()

    if turns:
        time_turns(dict(turns), rounds=amounts.rounds, until=until, after=keep)
    for turn in turns.values():
        turn.close()
    turns.clear()
    release_memory(device)


def repeated(batch: Batch, images: int) -> list[Batch]:
    """The batch as often as makes `images`, at least once, each time under other indices."""
    size = len(batch.label)
    return [batch._replace(index=batch.index + number * size) for number in range(max(images // size, 1))]


class EvaluationTurn:
    """A way's turn: one evaluation of so many images, at least of one batch. When it is built it is warm."""

    def __init__(self, key: str, case: Case, device: torch.device, images: int) -> None:
        torch.compiler.reset()  # else it would compile for batches of any size from the second one on
        self._memory, start = DeviceMemory(device), time.perf_counter()
        self.way = build_validation(key, case, device)
        self.way.begin()
        batch = make_batches(case, device, channels_last=self.way.channels_last, num=1)[0]
        self.logits: NDArray[np.float32] = self.way.logits(batch).numpy()
        self.batches = [batch, batch._replace(index=batch.index + case.batch)]
        self()
        self.ready_seconds = round(time.perf_counter() - start, 3)
        self.batches = repeated(batch, images)

    def __call__(self) -> int:
        self.way.begin()
        self.way.run(self.batches)
        return sum(len(batch.label) for batch in self.batches)

    def device_memory(self) -> dict[str, float] | None:
        """How far the way has raised the device's memory, MiB; None on the CPU."""
        return self._memory.peak()


def _assert_same(logits: NDArray[np.float32], reference: NDArray[np.float32], dtype: torch.dtype) -> None:
    """Raises ValueError where the logits are others than the first way's."""
    apart = float(np.linalg.norm(logits - reference) / np.linalg.norm(reference))
    if apart > (FP32_TOLERANCE if dtype is torch.float32 else LOW_PRECISION_TOLERANCE):
        raise ValueError(f"its logits differ from the first way's by {apart:.2g} of their size")


def targets(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At least timm's validation with its best flags in the same precision, at every batch size."""
    found = []
    for block in blocks:
        ratio = block["results"].get("hw1", {}).get("ratios", {}).get("timm")
        if ratio:
            claim = f"{case_name(block['case'])}: hw1, times {LABELS[ratio['to']]}"
            found.append({"claim": claim, "needed": 1.0, "measured": ratio["ratio"], "met": ratio["ratio"] >= 1.0})
    return found
