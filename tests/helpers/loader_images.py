"""A few images and loaders of them, for the tests of loading."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_train_transform
from hw1.data.image_folder import ImageSet
from hw1.data.loader.loader import Batch, Loader

CPU = torch.device("cpu")
AUG = AugConfig(size=24)
SIZE = 23  # with batches of 5 the last has 3


def write_images(root: Path, count: int = SIZE) -> ImageSet:
    files = []
    for index in range(count):
        coarse = np.random.default_rng(index).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (30 + 3 * index, 70 - 2 * index), interpolation=cv2.INTER_CUBIC)
        files.append(f"{index % 3}/{index}.jpg")
        (root / files[-1]).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / files[-1]), image)
    return ImageSet(root, tuple(files), np.arange(count, dtype=np.int64) % 3, 0)


@contextlib.contextmanager
def loaders_of(images: ImageSet) -> Iterator[Callable[..., Loader]]:
    """A function that makes loaders of these images; they are closed at the end."""
    made = []

    def make(num_workers: int = 0, **changed) -> Loader:
        settings = {"batch_size": 5, "shuffle": True, "seed": 118, "device": CPU, "aug": AUG, "channels_last": True}
        made.append(Loader(images, build_train_transform(AUG), num_workers=num_workers, **{**settings, **changed}))
        return made[-1]

    try:
        yield make
    finally:
        for loader in made:
            loader.close()


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def processes() -> list[int]:
    return sorted(child.pid for child in multiprocessing.active_children())
