"""Shrink images to the size that the largest crop needs. No torch."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def shrunk_size(height: int, width: int, smallest_side: int | None) -> tuple[int, int]:
    """Return the (height, width) to which `shrink` brings an image of this size."""
    shorter = min(height, width)
    if smallest_side is None or shorter <= smallest_side:
        return height, width
    return round(height * smallest_side / shorter), round(width * smallest_side / shorter)


def shrink(image: NDArray[np.uint8], smallest_side: int | None) -> NDArray[np.uint8]:
    """Shrink an image until its shorter side has at most `smallest_side` pixels, with an antialiasing filter (Lanczos).

    Args:
        image: uint8 [H, W, 3].
        smallest_side: None leaves the image as it is.

    Returns:
        uint8 [H', W', 3], of `shrunk_size`.
    """
    height, width = shrunk_size(image.shape[0], image.shape[1], smallest_side)
    if (height, width) == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
