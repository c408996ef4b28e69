"""Whole loaders with worker processes: images/s that arrive at the device, as uint8 batches.

The device is torch's `meta`, which takes batches and computes nothing: each loader runs up to where it would hand over to a GPU.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from benchmarks.common.timing import use_one_thread
from benchmarks.input import peers
from benchmarks.input.pipelines import SEED, From, open_source
from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_train_transform
from hw1.data.image_set import ImageSet
from hw1.data.loader.loader import Loader

META = peers.META
EPOCH = 100_000  # images, the files over and over: no epoch ends while it is measured
MIN_CYCLES = 4  # batches from each worker, at least


class Running(NamedTuple):
    epoch: Callable[[int], Iterator[int]]
    """Begins an epoch: the sizes of its batches as they arrive."""
    close: Callable[[], None]


def open_ours(images: ImageSet, aug: AugConfig, workers: int, batch_size: int, source: From, folder: Path) -> Running:
    transform = build_train_transform(aug)
    arrays = _Repeated(open_source(source, images, aug, transform, True, folder), len(images))
    loader = Loader(
        images.subset([index % len(images) for index in range(EPOCH)]),
        transform,
        batch_size=batch_size,
        shuffle=True,
        seed=SEED,
        num_workers=workers,
        device=META,
        aug=aug,
        channels_last=True,
        source=arrays,
    )
    return Running(lambda epoch: (len(batch.index) for batch in loader.epoch(epoch)), loader.close)


def open_peer(
    build: Callable[[ImageSet, AugConfig], peers.Peer], images: ImageSet, aug: AugConfig, workers: int, batch_size: int
) -> Running:
    """The peer's dataset in torch's DataLoader."""
    dataset = build(images, aug)
    dataset.paths = dataset.paths * (EPOCH // len(images))
    options: dict[str, Any] = {"persistent_workers": True, "worker_init_fn": _start_worker} if workers else {}
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True, **options)
    return Running(lambda epoch: (len(image.to(META)) for image, _ in loader), lambda: _shut_down(loader))


def open_timm(images: ImageSet, aug: AugConfig, workers: int, batch_size: int) -> Running:
    loader = peers.timm_loader(images, aug, num_workers=workers, batch_size=batch_size, repeats=EPOCH // len(images))
    return Running(lambda epoch: (len(image) for image, _ in loader), lambda: _shut_down(loader.loader))


def open_loader(key: str, images: ImageSet, aug: AugConfig, workers: int, batch_size: int, folder: Path) -> Running:
    """The loader of a variant of `benchmarks.input.pipelines`."""
    ours: dict[str, From] = {"fused": "JPEG", "fused_decoded": "decoded", "fused_disk": "disk"}
    if key in ours:
        return open_ours(images, aug, workers, batch_size, ours[key], folder)
    if key == "timm":
        return open_timm(images, aug, workers, batch_size)
    builders = {"albumentations": peers.on_albumentations, "torchvision_v2": peers.on_tensors, "torchvision": peers.on_pillow}
    return open_peer(builders[key], images, aug, workers, batch_size)


def time_loaders(loaders: Mapping[str, Running], workers: int, *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images/s in each of `rounds`, one loader after the other in each, after one more that does not count (it starts the processes)."""
    rates: dict[str, list[float]] = {key: [] for key in loaders}
    for number in range(rounds + 1):
        for key, loader in loaders.items():
            rate = _measure(loader.epoch(number), max(workers, 1), seconds if number else 0.0)
            if number:
                rates[key].append(rate)
    return rates


def _measure(batches: Iterator[int], workers: int, seconds: float) -> float:
    """Images/s once every worker has delivered a batch, over at least `seconds`: whole cycles, as the workers take turns."""
    for _ in range(workers):
        next(batches)
    start, elapsed, images, cycles = time.perf_counter(), 0.0, 0, 0
    while elapsed < seconds or cycles < MIN_CYCLES:
        images += sum(next(batches) for _ in range(workers))
        cycles += 1
        elapsed = time.perf_counter() - start
    return images / elapsed


class _Repeated:
    """A source of `num` images, over and over."""

    def __init__(self, source: Any, num: int) -> None:
        self.source = source
        self.num = num

    def read(self, index: int) -> Any:
        return self.source.read(index % self.num)


def _start_worker(worker_id: int) -> None:
    use_one_thread()


def _shut_down(loader: Any) -> None:
    """Ends the persistent processes of a DataLoader, which has no public way to."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
