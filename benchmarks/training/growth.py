"""How the cost grows with the batch, the image size, the model and the size of the data set."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.input.images import draw_images
from benchmarks.training.case import Case, with_weights
from benchmarks.training.images import open_folders
from benchmarks.training.loops import choose
from benchmarks.training.measure import Amounts, CaseBench
from hw1.data.bad_images import check_images
from hw1.data.loader.loader import build_train_loader

DEFAULT_LOOPS = ("faithful/nhwc", "fast/nhwc", "report", "timm/nhwc")
"""Eager ones: a compiler would start anew with every shape. Give `--loop` for others."""
BATCHES = (2, 4, 8, 16, 32, 64)
CUDA_BATCHES = (2, 8, 32, 64, 128, 256)
SIZES = (64, 96, 128, 160)
CUDA_SIZES = (96, 160, 224, 288)
MODELS = ("resnet18_half_cbam", "resnet18_cbam", "resnext50_32x4d_cbam", "resnext101_32x8d_cbam")
MODEL_BATCH = 8
"""On the CPU, on which a larger batch of the largest model takes minutes a loop."""
DATA_SETS = (100, 1000, 10_000)
"""Images."""


def measure_growth(
    case: Case, patterns: Sequence[str], device: torch.device, found: dict[str, Any], save: Callable[[], None], *, quick: bool = False
) -> None:
    """Fills `found` with blocks of `CaseBench` under `batch`, `size` and `model`, and the start of a training under `data_set`."""
    keys = choose(patterns, DEFAULT_LOOPS)
    cases = {
        "batch": [replace(case, batch=batch) for batch in (CUDA_BATCHES if device.type == "cuda" else BATCHES)],
        "size": [replace(case, size=size) for size in (CUDA_SIZES if device.type == "cuda" else SIZES)],
        "model": [replace(case, model=name, batch=case.batch if device.type == "cuda" else MODEL_BATCH) for name in MODELS],
    }
    amounts = Amounts(rounds=1 if quick else 3, seconds=0.0 if quick else 0.5, warmup=1 if quick else 2)
    for name, each in cases.items():
        found[name] = blocks = []
        for one in each[:2] if quick else each:
            with with_weights(one) as ready:
                bench = CaseBench(ready, keys, device, amounts, save)
                blocks.append(bench.block)
                bench.run()
                bench.close()
    found["data_set"] = rows = []
    for num in DATA_SETS[:1] if quick else DATA_SETS:
        rows.append(time_start(case, device, num))
        save()


def time_start(case: Case, device: torch.device, num: int) -> dict[str, Any]:
    """Seconds from the folder to the first batch of `num` images: `open` lists and reads every one of them once, `again` finds that
    this was done, `first_batch` starts the loader. The files are names (hard links) of 20 drawn images.
    """
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as name, _cache_folder(Path(name) / "cache"):
        root = Path(name) / "pictures"
        _link_class_folders(Path(name), root, num)
        seconds = {}
        for part in ("open", "again"):
            start = time.perf_counter()
            recipe, data = open_folders(case, root)
            check_images([data.train, data.val], "stop", max_bad=0.0)
            seconds[part] = round(time.perf_counter() - start, 3)
        start = time.perf_counter()
        loader = build_train_loader(data.train, recipe, device)
        try:
            next(iter(loader.epoch(0)))
            seconds["first_batch"] = round(time.perf_counter() - start, 3)
        finally:
            loader.close()
    return {"images": num, "seconds": seconds}


def _link_class_folders(folder: Path, root: Path, num: int) -> None:
    drawn = draw_images(300, 220, 20, folder / "drawn")
    for number in range(num):
        for split in ("train", "val") if number < 100 else ("train",):
            path = root / split / str(number % 100) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(drawn.images.path(number % len(drawn.images)), path)


@contextmanager
def _cache_folder(path: Path) -> Iterator[None]:
    """What hw1 remembers of checked images goes to a folder of its own inside."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(path)
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
