"""The parts of `benchmarks.gpu`: each fills its own block of the result, and saves after everything that it has learnt."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import ours
from benchmarks.training.card import layout_sums, measure_layouts, measure_rates, profile_kernels, step_dtype
from benchmarks.training.case import Case, with_weights
from benchmarks.training.check import check_case
from benchmarks.training.epoch_measure import Amounts as EpochAmounts
from benchmarks.training.epoch_measure import default_loops, measure_epochs
from benchmarks.training.inference_measure import Amounts as InferenceAmounts
from benchmarks.training.inference_measure import measure_inference
from benchmarks.training.loops import LABELS
from benchmarks.training.measure import Amounts, CaseBench, freezing_of, roofline
from benchmarks.training.turns import fastest

# Loops in the order in which they are built: eager ones cost nothing, each compiled one up to a minute and a half.
STEP_ORDER = (
    "report", "faithful/nchw", "faithful/nhwc", "fast/nhwc", "timm/nchw", "timm/nhwc", "timm-fast/nhwc", "faithful/eager-graph",
    "fast/eager-graph", "faithful/graph", "timm/compiled", "fast/graph", "timm/graphs", "faithful/compiled", "fast/compiled",
    "timm-fast/graphs", "timm-fast/compiled", "faithful/compiled-nchw", "timm/compiled-nchw", "fast/nchw", "timm-fast/nchw",
    "fast/compiled-nchw", "timm-fast/compiled-nchw",
)  # fmt: skip
CHECK_ORDER = (
    "faithful/nhwc", "fast/nhwc", "faithful/graph", "fast/graph", "faithful/eager-graph", "fast/eager-graph", "faithful/nchw", "fast/nchw",
    "faithful/compiled", "fast/compiled", "faithful/compiled-nchw", "fast/compiled-nchw",
)  # fmt: skip
EAGER = ("report", "faithful/nhwc", "fast/nhwc", "timm/nhwc")
EVALUATION = ("hw1", "plain", "timm/nchw", "timm/nhwc")


@dataclass(frozen=True)
class Sizes:
    """How much each part does."""

    copy_mebibytes: int = 1024
    matrix_side: int = 8192
    rounds: int = 5
    seconds: float = 0.5
    warmup: int = 5
    curve_steps: int = 200
    kernel_seconds: float = 0.02
    """Of a sample of one convolution."""
    images: int = 4800
    workers: int | None = None
    evaluated: int = 2048


TINY = Sizes(16, 256, rounds=1, seconds=0.0, warmup=1, curve_steps=4, kernel_seconds=0.001, images=100, workers=1, evaluated=8)


@dataclass
class Run:
    """One call of `benchmarks.gpu`."""

    case: Case
    check: Case
    batches: Sequence[int]
    """Further batch sizes."""
    loops: Sequence[str]
    device: torch.device
    sizes: Sizes
    photos: Path | None
    minutes: float
    content: dict[str, Any]
    save: Callable[[], None]
    started: float

    def at(self, share: float) -> float:
        """The moment (`time.perf_counter`) at which so much of the time is over."""
        return self.started + share * self.minutes * 60

    def best(self) -> dict[str, str]:
        """The fastest loop at the first batch size of each recipe and of timm, as far as they were timed."""
        rates = {key: row["images_per_second"] for key, row in self.content.get("steps", {}).get("results", {}).items()}
        groups: dict[str, list[str]] = {"faithful": [], "fast": [], "timm": []}
        for key in rates:
            if key in ours.OURS:
                groups[freezing_of(key)].append(key)
            elif key.startswith("timm/"):
                groups["timm"].append(key)
        found = {name: fastest(rates, keys) for name, keys in groups.items()}
        return {name: key for name, key in found.items() if key}


def measure_card(run: Run, until: float) -> None:
    """Copy bandwidth, matrix rate, and the least time of a step that follows from them."""
    rates = measure_rates(run.device, mebibytes=run.sizes.copy_mebibytes, side=run.sizes.matrix_side)
    run.content["card"] = {"copy_gigabytes_per_second": rates.bytes / 1e9, "matrix_teraflops": rates.flops / 1e12}
    run.content["card"]["precision"] = str(step_dtype(run.device)).removeprefix("torch.")
    run.content["roofline"] = roofline(run.case, rates, run.device)


def check_correctness(run: Run, until: float) -> None:
    """Gradients and loss curves of our variants against plain FP32, and the same bits twice."""
    run.content["checks"] = []
    keys = [key for key in CHECK_ORDER if key in run.loops]
    with with_weights(run.check) as ready:
        check_case(ready, keys, run.device, run.sizes.curve_steps, run.content["checks"], run.save, until=until)


def measure_steps(run: Run, until: float) -> None:
    """Every loop at the first batch size, and the most expensive kernels of the fastest one of each recipe.

    A quarter of the time is for the rounds, the rest for building and compiling.
    """
    now = time.perf_counter()
    amounts = Amounts(run.sizes.rounds, run.sizes.seconds, run.sizes.warmup, own_processes=False)
    bench = CaseBench(run.case, [key for key in STEP_ORDER if key in run.loops], run.device, amounts, run.save)
    run.content["steps"] = bench.block
    bench.run(build_until=now + 0.75 * (until - now), until=until)
    run.content["kernels"] = kernels = {}
    for key in [key for key in run.best().values() if key in ours.OURS]:
        turn = bench.turns[key]
        kernels[key] = profile_kernels(turn.ask("loop"), turn.ask("batches"), run.device)
        run.save()
    bench.close()


def measure_stage_layouts(run: Run, until: float) -> None:
    """Every kind of convolution in both memory orders."""
    rows = measure_layouts(run.case, run.device, least=run.sizes.kernel_seconds, until=until)
    run.content["layouts"] = {"convolutions": rows, "microseconds": layout_sums(rows)}


def measure_end_to_end(run: Run, until: float) -> None:
    """Epochs from JPEG files, by the fastest loops."""
    run.content["epoch"] = {}
    keys = list(run.best().values()) or default_loops(run.device)
    amounts = EpochAmounts(run.sizes.images, min(run.sizes.rounds, 3), run.sizes.workers)
    measure_epochs(run.case, keys, run.device, amounts, run.photos, run.content["epoch"], run.save, until=until)


def measure_evaluation(run: Run, until: float) -> None:
    """Evaluation at the first and the largest batch size."""
    run.content["sizes"] = []
    amounts = InferenceAmounts(run.sizes.evaluated, min(run.sizes.rounds, 3), own_processes=False)
    for batch in sorted({run.case.batch, *run.batches[-1:]}):
        if time.perf_counter() < until:
            measure_inference(run.case, [batch], EVALUATION, run.device, amounts, run.content["sizes"], run.save, until=until)


def measure_batches(run: Run, until: float) -> None:
    """Larger batches: eager loops first, then, where time is left, the fastest ones, which are compiled anew for each size."""
    run.content["batches"] = blocks = []
    amounts = Amounts(min(run.sizes.rounds, 3), run.sizes.seconds, run.sizes.warmup, own_processes=False)
    best = [key for key in run.best().values() if key not in EAGER]
    for keys in ([key for key in EAGER if key in run.loops], best):
        for batch in run.batches if keys else ():
            if time.perf_counter() < until:
                bench = CaseBench(replace(run.case, batch=batch), keys, run.device, amounts, run.save)
                blocks.append(bench.block)
                bench.run(build_until=until, until=until)
                bench.close()


PARTS: dict[str, tuple[Callable[[Run, float], None], float]] = {
    "card": (measure_card, 0.10),
    "correctness": (check_correctness, 0.27),
    "steps": (measure_steps, 0.60),
    "layouts": (measure_stage_layouts, 0.65),
    "epoch": (measure_end_to_end, 0.85),
    "evaluation": (measure_evaluation, 0.90),
    "batches": (measure_batches, 0.97),
}
"""In their order, each with the share of the time that is over when it must have ended. What one does not use, the next ones have."""
assert set(STEP_ORDER) <= set(LABELS)
