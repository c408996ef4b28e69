"""Where the images of a set come from: their files, or a cache."""

import math
from typing import Protocol

import numpy as np

from hw1.data.decode import BadImage, read_image
from hw1.data.image_set import ImageSet
from hw1.errors import RunError
from hw1.utils.text import printable

DECODE_MARGIN = 1.5
"""A file is decoded at a reduced size where that leaves it this many times as large as it must be: libjpeg's scaling is softer than the
filter that follows. At 64 pixels an image loses a tenth of its fine detail without the margin, by the variance of its Laplacian."""


class ImageSource(Protocol):
    """Where the images of an ImageSet come from."""

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3] RGB, upright, of image `index`. Raises RunError, naming the file, where it cannot be read (any more)."""
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
