"""What `benchmarks.input_pipeline` measures: images, then each figure in turn, into one dictionary."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common.machine import describe_machine, hardware_name
from benchmarks.common.memory import peak_mebibytes
from benchmarks.common.timing import summarise, time_rounds, use_one_thread
from benchmarks.input import images as images
from benchmarks.input.loading import open_loader, time_loaders
from benchmarks.input.pipelines import VARIANTS
from hw1.config.recipe import AugConfig
from hw1.runtime.cpu import usable_cores

Block = dict[str, Any]
SIZE = 224
CHUNK = 16  # images that one variant makes before the next has its turn
CURVES: list[str] = ["fused", "fused_decoded", "fused_disk", "albumentations", "timm", "torchvision_v2", "torchvision"]
"""The variants whose growth is measured."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured."""

    images: int = 256
    large_images: int = 100
    rounds: int = 7
    growth_images: int = 96
    growth_rounds: int = 5
    sizes: tuple[int, ...] = (64, 96, 160, 224, 320)
    larger_files: bool = True
    seconds: float = 1.0
    memory_images: int = 64
    batch_size: int = 32


QUICK = Amounts(
    images=16,
    rounds=2,
    growth_images=8,
    growth_rounds=1,
    sizes=(64, 224),
    larger_files=False,
    seconds=0.2,
    memory_images=8,
    batch_size=8,
)


def measure(amounts: Amounts, photos: Path | None, large: Path | None) -> dict[str, Any]:
    """Everything that goes into the JSON file. Raises UserError for a folder without JPEG files."""
    machine = describe_machine()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as name:
        bench = _Bench(amounts, Path(name), photos, large)
        result = {
            "benchmark": "input_pipeline",
            "hardware": hardware_name(machine),
            "machine": machine,
            "settings": asdict(amounts) | {"size": SIZE, "threads": 1, "policy": AugConfig().model_dump(mode="json")},
            **bench.run(),
        }
    return result | {"targets": _targets(result)}


class _Bench:
    """The images of a run, in `folder`, and what is measured on them."""

    def __init__(self, amounts: Amounts, folder: Path, photos: Path | None, large: Path | None) -> None:
        self.amounts = amounts
        self.folder = folder
        _say("collecting images")
        self.images = (
            images.copy_photos(photos, amounts.images, folder / "photos")
            if photos
            else images.draw_images(300, 220, amounts.images, folder / "photos")
        )
        self.larger = []
        if large:
            self.larger.append(images.copy_photos(large, amounts.large_images, folder / "large"))
        if amounts.larger_files:
            self.larger.append(images.draw_images(1200, 900, 24, folder / "drawn"))

    def run(self) -> dict[str, Any]:
        started = time.perf_counter()
        memory = self.measure_memory()  # first: the processes measured are copies of this one
        blocks = {
            "variants": {
                key: {"label": variant.label, "source": variant.source, "ours": variant.ours, "base": variant.base}
                for key, variant in VARIANTS.items()
            },
            "memory_mib": memory,
            "one_core": self.time_images(self.images, list(VARIANTS), SIZE, self.amounts.images, self.amounts.rounds),
            "larger_files": [
                self.time_images(larger, [key for key in VARIANTS if "eval" not in key], SIZE, self.amounts.large_images)
                for larger in self.larger
            ],
            "output_size": [self.time_images(self.images, CURVES, size, self.amounts.growth_images) for size in self.amounts.sizes],
            "loaders": self.time_loaders(),
        }
        return blocks | {"minutes": round((time.perf_counter() - started) / 60, 1)}

    def measure_memory(self) -> dict[str, float]:
        """Peak of each variant over the same images, MiB."""
        images = self.images.images.subset(range(min(self.amounts.memory_images, len(self.images.images))))

        def work(key: str) -> None:
            read = VARIANTS[key].build(images, AugConfig(size=SIZE), self.folder / "cache")
            for index in range(len(images)):
                read(0, index)

        found = {}
        for key in VARIANTS:
            _say(f"memory: {key}")
            if VARIANTS[key].source == "disk":
                peak_mebibytes(partial(work, key))  # makes the cache, which is not what is asked
            found[key] = round(peak_mebibytes(partial(work, key)), 1)
        return found

    def time_images(self, source: Any, keys: Sequence[str], size: int, num: int, rounds: int | None = None) -> Block:
        """One core: the variants in turn over the same files."""
        images = source.images.subset(range(min(num, len(source.images))))
        _say(f"one core: {len(images)} {source.origin}, to {size} px")
        present = [key for key in keys if key in VARIANTS]
        reads = {key: VARIANTS[key].build(images, AugConfig(size=size), self.folder / "cache") for key in present}
        rates = time_rounds(reads, len(images), rounds=rounds or self.amounts.growth_rounds, chunk=CHUNK)
        return {
            "pictures": source.describe() | {"count": len(images)},
            "size": size,
            "results": summarise(rates, {key: VARIANTS[key].base for key in present}),
        }

    def time_loaders(self) -> list[Block]:
        """Whole loaders: with one worker process, two, four ... up to as many as there are cores."""
        cores = usable_cores()
        counts = sorted({1 << power for power in range(cores.bit_length())} | {cores})
        blocks = []
        for workers in counts[-1:] if self.amounts is QUICK else counts:
            _say(f"loaders with {workers} workers")
            loaders = {
                key: open_loader(key, self.images.images, AugConfig(size=SIZE), workers, self.amounts.batch_size, self.folder / "cache")
                for key in CURVES
                if key in VARIANTS
            }
            try:
                rates = time_loaders(loaders, workers, rounds=self.amounts.growth_rounds, seconds=self.amounts.seconds)
            finally:
                for loader in loaders.values():
                    loader.close()
            blocks.append({"workers": workers, "results": summarise(rates, dict.fromkeys(rates, "torchvision"))})
        return blocks


def _targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was promised, and what was measured."""
    one_core = result["one_core"]["results"]
    targets = [
        ("from JPEG files, times torchvision on Pillow", 4.5, one_core["fused"]["ratio"]),
        ("decoded once, times torchvision on Pillow from JPEG files", 7.0, one_core["fused_decoded"]["ratio"]),
    ]
    if "fused_disk" in one_core:
        targets.append(("from the disk cache, times torchvision on Pillow from JPEG files", 7.0, one_core["fused_disk"]["ratio"]))
    for block in result["larger_files"]:
        files = f"{block['pictures']['width']} x {block['pictures']['height']} pixels, {block['pictures']['origin']}"
        for peer in ("albumentations", "timm"):
            times = block["results"]["fused"]["median"] / block["results"][peer]["median"]
            targets.append((f"from JPEG files of {files}, times {result['variants'][peer]['label']}", 1.0, round(times, 3)))
    return [{"claim": claim, "needed": needed, "measured": measured, "met": measured >= needed} for claim, needed, measured in targets]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
