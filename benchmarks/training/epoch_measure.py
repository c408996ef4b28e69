"""End to end from JPEG files: epochs of every loop in turns, beside the rate of the step alone."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.timing import summarise
from benchmarks.training import ours, peers
from benchmarks.training.case import Case, with_weights
from benchmarks.training.device import release_memory
from benchmarks.training.epochs import Files, OurEpochs, TimmEpochs
from benchmarks.training.images import make_class_folders, open_folders
from benchmarks.training.loops import LABELS, why_not
from benchmarks.training.measure import named_peers
from benchmarks.training.timm_script import arguments, find_script, run_script, version_of
from benchmarks.training.turns import Turn, compare, time_turns
from hw1.runtime.cpu import default_num_workers

STEP = "step of "
"""Before the key of a loop of ours: the same training on batches that are on the device already."""
SIDE = 432  # pixels of a generated image: as many as 500 x 375
REPORT_IMAGES, REPORT_EPOCHS = 20_700, 50


@dataclass(frozen=True)
class Amounts:
    images: int = 512
    rounds: int = 3
    workers: int | None = None
    """Of every loader alike; None: as `data.num_workers: null`."""


def default_loops(device: torch.device) -> list[str]:
    """The fastest way of each recipe that this device and version has, and timm's."""
    ways = [way for way in ("graph", "compiled", "nhwc") if device.type == "cuda" or not ours.WAYS[way].compile]
    way = next(way for way in ways if ours.why_not(f"faithful/{way}", device) is None)
    flags = ["nhwc", "compiled"] if device.type == "cuda" else ["nhwc"]
    return [f"faithful/{way}", f"fast/{way}", *(f"timm/{name}" for name in flags)]


def measure_epochs(
    case: Case, keys: Sequence[str], device: torch.device, amounts: Amounts, photos: Path | None, block: dict[str, Any],
    save: Callable[[], None], *, script: Path | None = None, until: float = float("inf"),
) -> None:  # fmt: skip
    """Fills `block`: `results` of epochs and, under `STEP` keys, of steps alone; `of_step`, the first over the second; `wait`."""
    workers = default_num_workers(device) if amounts.workers is None else amounts.workers
    block |= {"case": case.describe(), "workers": workers, "left_out": {}, "failed": {}, "memory_mib": {}, "results": {}}
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as name:
        files = Files(Path(name) / "pictures", workers)
        block["pictures"] = make_class_folders(photos, amounts.images, SIDE, files.root)
        _, data = open_folders(case, files.root)
        block["images"] = len(data.train)
        with with_weights(replace(case, num_classes=data.classes.num_classes)) as ready:
            _measure(ready, keys, device, amounts, files, block, save, until)
            if script:
                _measure_script(find_script(script), ready, keys, device, files, block, save)


def _measure(
    case: Case, keys: Sequence[str], device: torch.device, amounts: Amounts, files: Files, block: dict[str, Any],
    save: Callable[[], None], until: float,
) -> None:  # fmt: skip
    loops: dict[str, OurEpochs | TimmEpochs] = {}
    turns: dict[str, Turn] = {}
    try:
        for key in keys:
            if reason := _why_not(key, case, device) or ("no time was left" if time.perf_counter() > until else None):
                block["left_out"][key] = reason
                continue
            print(f"{case}: building epochs of {key}", file=sys.stderr, flush=True)
            loops[key] = loop = _build(key, case, device, files)
            turns[key] = loop.epoch
            loop.epoch()
            if isinstance(loop, OurEpochs):
                turns[STEP + key] = loop.steps
                loop.steps()
            loop.waits.clear()
        block["labels"] = {key: label_of(key) for key in [*turns, *block["left_out"]]}

        def keep(rates: dict[str, list[float]]) -> None:
            block["results"] = results = compare(rates, named_peers(rates))
            steps = {key: STEP + key for key in loops if STEP + key in rates}
            for key, row in summarise(rates, {key: steps.get(key, key) for key in rates}).items():
                if key in steps:
                    results[key]["of_step"] = row["ratio"]
            for key, loop in loops.items():
                results[key]["wait"] = round(float(np.median(loop.waits)), 4)
                results[key]["report_minutes"] = round(REPORT_EPOCHS * REPORT_IMAGES / results[key]["median"] / 60, 1)
            save()

        time_turns(turns, rounds=amounts.rounds, until=until, after=keep)
    finally:
        for loop in loops.values():
            loop.close()
        loops.clear()
        turns.clear()
        release_memory(device)


def _measure_script(
    script: Path, case: Case, keys: Sequence[str], device: torch.device, files: Files, block: dict[str, Any], save: Callable[[], None]
) -> None:
    """train.py with each of timm's flags among `keys`, and beside it our loop with nothing frozen, as it cannot freeze."""
    way = next(key.partition("/")[2] for key in keys if key in ours.OURS)
    loop = OurEpochs(case, f"faithful/{way}", device, files, ["freeze.stages=[]"])
    found: dict[str, Any] = {"version": version_of(script), "flags": {}, "hw1_unfrozen": []}
    block["timm_script"] = found
    try:
        loop.epoch()
        for key in keys:
            peer, _, flags = key.partition("/")
            if peer == "timm":
                print(f"{case}: timm's {script.name}, {peers.TIMM[flags].label}", file=sys.stderr, flush=True)
                output = files.root.parent / "output"
                rate = run_script(script, arguments(case, files, device, flags, output), files.root.parent)
                start = time.perf_counter()
                images = loop.epoch()
                found["hw1_unfrozen"].append(round(images / (time.perf_counter() - start), 1))
                found["flags"][flags] = rate
                save()
    finally:
        loop.close()
        release_memory(device)
    if found["flags"]:
        found["ratio"] = round(float(np.median(found["hw1_unfrozen"])) / max(found["flags"].values()), 3)
        save()


def _build(key: str, case: Case, device: torch.device, files: Files) -> OurEpochs | TimmEpochs:
    return OurEpochs(case, key, device, files) if key in ours.OURS else TimmEpochs(case, key, device, files)


def _why_not(key: str, case: Case, device: torch.device) -> str | None:
    if key in peers.PEERS and case.batch % 2:
        return "timm's Mixup takes even batches only"
    if key == "report":
        return "its loader is measured by benchmarks.input_pipeline"
    return why_not(key, device)


def label_of(key: str) -> str:
    return f"the step alone, {LABELS[key.removeprefix(STEP)]}" if key.startswith(STEP) else LABELS[key]


def targets(block: dict[str, Any]) -> list[dict[str, Any]]:
    """What was promised of an epoch, and what was measured."""
    shares = {key: row["of_step"] for key, row in block["results"].items() if "of_step" in row}
    return [
        {"claim": f"{LABELS[key]}, share of the step's own rate", "needed": 0.95, "measured": share, "met": share >= 0.95}
        for key, share in shares.items()
    ]
