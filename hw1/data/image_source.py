"""Read the images of a set from their files; define what a cache of them offers instead."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw1.data.decode import BadImage, read_image
from hw1.data.image_set import ImageSet
from hw1.errors import RunError
from hw1.utils.text import printable

DECODE_MARGIN = 1.5
"""A file is decoded at a reduced size where that leaves it this many times as large as it must be: libjpeg's scaling is softer than the
filter that follows. At 64 pixels an image loses a tenth of its fine detail without the margin, by the variance of its Laplacian."""


class ImageSource(Protocol):
    """Decoded images of an ImageSet."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`: uint8 [H, W, 3], RGB, upright.

        Raises:
            RunError: It can no longer be read; names the file.
        """
        ...


class FileSource:
    """Decode the file at every read.

    Args:
        images: The images.
        smallest_side: Shorter side in pixels that is needed. Files are decoded at a reduced size that leaves `DECODE_MARGIN` times as
            many (`decode_image`); None decodes whole size.
    """

    def __init__(self, images: ImageSet, smallest_side: int | None = None) -> None:
        self.images = images
        self.smallest_side = None if smallest_side is None else math.ceil(DECODE_MARGIN * smallest_side)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode image `index`; see `ImageSource.read`."""
        path = self.images.image_file(index)
        try:
            return read_image(path, self.smallest_side)
        except BadImage as error:
            raise RunError(f"{printable(path)}: {error.reason}") from error
