"""One case: every loop's first loss, memory and speed, beside each other in one run."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.training import ours
from benchmarks.training.case import Case
from benchmarks.training.device import release_memory
from benchmarks.training.loops import LABELS, is_compiled, why_not
from benchmarks.training.own_process import OwnProcess, ThisProcess, start
from benchmarks.training.roofline import Rates, analyse_case
from benchmarks.training.same import FP32_TOLERANCE, LOW_PRECISION_TOLERANCE, difference
from benchmarks.training.turns import LoopTurn, Turn, compare, fastest, time_turns
from hw1.training.cuda_graphs import EAGER_STEPS
from hw1.utils.text import one_line

Block = dict[str, Any]
NOTHING_LEFT = 0.8
"""Share of the roofline from which on a step is as fast as the processor lets it be."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured."""

    rounds: int = 7
    seconds: float = 1.0
    """Of a turn, at least one step."""
    warmup: int = 3
    """Steps before the first turn, of which the first compiles; more where a CUDA graph is recorded after some."""
    own_processes: bool = True
    """On the CPU, each loop in one, as it is in any training; a GPU's memory is not the process's."""


class CaseBench:
    """Builds, checks and times the loops `keys` of a case into `block`, which is saved after everything that was learnt."""

    def __init__(self, case: Case, keys: Sequence[str], device: torch.device, amounts: Amounts, save: Callable[[], None]) -> None:
        self.case = case
        self.device = device
        self.amounts = amounts
        self._save = save
        self.turns: dict[str, OwnProcess | ThisProcess] = {}
        reasons = {key: why_not(key, device) for key in keys}
        self.keys = [key for key in keys if reasons[key] is None]
        self.block: Block = {
            "case": case.describe(),
            "labels": {key: LABELS[key] for key in keys},
            "left_out": {key: reason for key, reason in reasons.items() if reason},
            "failed": {},
            "first_loss": {},
            "warmup_seconds": {},
            "memory_mib": {},
            "results": {},
        }

    def run(self, *, build_until: float = float("inf"), until: float = float("inf")) -> None:
        """Everything; loops not built by `build_until`, and rounds not begun by `until` (`time.perf_counter`), are left out.

        On a GPU a loop that fails, for want of memory or in a compiler, is named in `failed`, and the others go on.
        """
        self.build(build_until)
        self.time(until)

    def build(self, until: float = float("inf")) -> None:
        """All loops, checked and warm."""
        for key in self.keys:
            if time.perf_counter() > until:
                self.block["left_out"][key] = "no time was left"
                continue
            _say(f"{self.case}: building {key}")
            try:
                self._build(key)
            except Exception as error:  # another's compiler may fail in any way
                if key in self.turns:
                    self.turns.pop(key).close()
                self.block["failed"][key] = one_line(error)
                _say(f"{self.case}: {key} failed: {self.block['failed'][key]}")
            if key not in self.turns:
                release_memory(self.device)
            self._save()

    def _build(self, key: str) -> None:
        turn = start(LoopTurn, key, self.case, self.device, apart=self.amounts.own_processes, device=self.device)
        self.turns[key] = turn
        self.block["first_loss"][key] = turn.ask("first_loss")
        if self._computes_something_else(key):
            raise ValueError(f"its first loss is {self.block['first_loss'][key]:.4f}: {self.block['first_loss']}")
        steps = max(self.amounts.warmup, EAGER_STEPS + 2) if key.endswith("graph") else self.amounts.warmup
        self.block["warmup_seconds"][key] = round(turn.ask("warm_up", steps, self.amounts.seconds), 2)
        if reason := turn.ask("why_not_as_asked"):
            raise ValueError(reason)
        would_be_compilers = is_compiled(key) and self.device.type == "cpu"
        if not would_be_compilers and (peak := turn.peak_memory()):
            self.block["memory_mib"][key] = peak

    def _computes_something_else(self, key: str) -> bool:
        """Whether the loss on the first batch is another than that of the first loop with the same freezing."""
        losses = {name: loss for name, loss in self.block["first_loss"].items() if freezing_of(name) == freezing_of(key)}
        is_low = self.case.dtype(self.device) is not torch.float32
        return difference(losses, next(iter(losses)))[key] > (LOW_PRECISION_TOLERANCE if is_low else FP32_TOLERANCE)

    def time(self, until: float = float("inf")) -> None:
        """The rounds."""
        _say(f"{self.case}: timing {', '.join(self.turns)}")
        if self.turns:
            turns: dict[str, Turn] = dict(self.turns)
            time_turns(turns, rounds=self.amounts.rounds, until=until, after=self._keep)

    def _keep(self, rates: dict[str, list[float]]) -> None:
        self.block["results"] = compare(rates, named_peers(rates))
        self._save()

    def close(self) -> None:
        """Frees what the loops hold."""
        for turn in self.turns.values():
            turn.close()
        self.turns.clear()
        torch.compiler.reset()
        release_memory(self.device)


def freezing_of(key: str) -> str:
    """`faithful` or `fast`."""
    return "fast" if key.startswith(("fast/", "timm-fast/")) else "faithful"


def named_peers(rates: Mapping[str, list[float]]) -> dict[str, str]:
    """What everything is compared with: the report's loop, timm's with its best flags, and the same with the fast recipe's freezing."""
    candidates = {
        "report": fastest(rates, ["report"]),
        "timm": fastest(rates, [key for key in rates if key.startswith("timm/")]),
        "timm-fast": fastest(rates, [key for key in rates if key.startswith("timm-fast/")]),
    }
    return {name: key for name, key in candidates.items() if key}


def roofline(case: Case, rates: Rates, device: torch.device) -> dict[str, Any]:
    """The least time of a step of both recipes, in the precision that the case has on the device."""
    return {freezing: analyse_case(case, freezing, case.dtype(device).itemsize).describe(rates) for freezing in ours.FREEZING}


def roofline_shares(block: Block) -> dict[str, float]:
    """What the fastest variant of each recipe reaches of the block's `roofline`, with BatchNorm, ReLU and addition in one kernel."""
    shares = {}
    for freezing, found in block.get("roofline", {}).items():
        if best := _fastest_of(block, freezing):
            shares[freezing] = round(block["results"][best]["median"] / found["images_per_second"]["folded"], 4)
    return shares


def targets_of(block: Block, is_cuda: bool) -> list[dict[str, Any]]:
    """What was promised of the fastest variant of each recipe, and what was measured.

    On a CPU a ratio that is missed is met all the same where the roofline leaves next to nothing.
    """
    wanted = [("faithful", "timm", 1.25 if is_cuda else 1.1), ("fast", "timm", 1.25 if is_cuda else 1.4)]
    wanted += (
        [("faithful", "report", 20.0), ("fast", "report", 20.0), ("fast", "timm-fast", 1.0)] if is_cuda else [("fast", "timm-fast", 1.1)]
    )
    shares = {} if is_cuda else block.get("roofline_share", {})
    found = []
    for freezing, peer, needed in wanted:
        best = _fastest_of(block, freezing)
        ratios = block["results"][best]["ratios"] if best else {}
        if best and peer in ratios:
            claim = f"{LABELS[best]}, times {LABELS[ratios[peer]['to']]}"
            ratio = ratios[peer]["ratio"]
            found.append({"claim": claim, "needed": needed, "measured": ratio, "met": ratio >= needed})
            if freezing in shares and ratio < needed:
                found[-1] |= {"roofline_share": shares[freezing], "met": shares[freezing] > NOTHING_LEFT}
    return found


def _fastest_of(block: Block, freezing: str) -> str | None:
    rates = {key: row["images_per_second"] for key, row in block["results"].items()}
    return fastest(rates, [key for key in ours.OURS if freezing_of(key) == freezing])


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
