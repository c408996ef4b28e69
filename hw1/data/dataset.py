"""Image files to tensors, one sample at a time."""

import math
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from hw1.data.decode import BadImage, read_image
from hw1.data.images import ImageSet
from hw1.data.listing import printable
from hw1.data.transforms import Transform
from hw1.errors import RunError

Sample = tuple[torch.Tensor, int, int]

DECODE_MARGIN = 1.5
"""A file is decoded at a reduced size where that leaves it this many times as large as it must be: libjpeg's scaling is softer than the
filter that follows. At 64 pixels a picture loses a tenth of its fine detail without the margin, by the variance of its Laplacian."""


class PictureSource(Protocol):
    """Where the pictures of an ImageSet come from."""

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3] RGB, upright, of picture `index`. Raises RunError, naming the file, where it cannot be read (any more)."""
        ...


class FileSource:
    """Decodes the file at every read; at a reduced size (`decode_image`) that leaves its shorter side `DECODE_MARGIN` x `smallest_side`."""

    def __init__(self, images: ImageSet, smallest_side: int | None = None) -> None:
        self.images = images
        self.smallest_side = None if smallest_side is None else math.ceil(DECODE_MARGIN * smallest_side)

    def read(self, index: int) -> np.ndarray:
        path = self.images.image_file(index)
        try:
            return read_image(path, self.smallest_side)
        except BadImage as error:
            raise RunError(f"{printable(path)}: {error.reason}") from error


class PictureDataset(Dataset[Sample]):
    """Transformed pictures, keyed by (epoch, index): both decide the augmentation, `index` the picture.

    An item is (uint8 tensor [S, S, 3] RGB, label or -1 where the set has no labels, index). It is a function of the source, the transform,
    the seed and its key, wherever it is computed.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int, source: PictureSource | None = None) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.source = source or FileSource(images, transform.smallest_side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Raises RunError, naming the file, where it cannot be decoded (any more: files are checked before a run)."""
        epoch, index = key
        tensor = torch.from_numpy(self.transform(self.source.read(index), (self.seed, epoch, index)))
        return tensor, -1 if self.images.labels is None else int(self.images.labels[index]), index
