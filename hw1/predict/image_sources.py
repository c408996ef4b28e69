"""The images that a Python program hands over: files, arrays, Pillow images."""

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.data.decode import BadImage, pillow_pixels
from hw1.errors import UserError


def as_image(source: Any, position: int) -> Path | NDArray[np.uint8]:
    """Return an image for `read_images`.

    Args:
        source: A file's path; an array, uint8 [H, W, 3] in RGB or [H, W] in grey; or a Pillow image.
        position: Its position in the list, for the error.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return Path(source).expanduser()
    if isinstance(source, Image.Image):
        try:
            return pillow_pixels(source)
        except BadImage as error:
            raise UserError(f"image {position}: {error}") from None
    if not hasattr(source, "__array__"):
        raise UserError(f"image {position}: a {type(source).__name__} is no file, array or Pillow image")
    array = np.asarray(source)
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise UserError(f"image {position}: an array must be uint8 [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}")
    return array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)


def raise_bad_image(error: BadImage) -> NoReturn:
    """Raise a `UserError` for an image that cannot be read."""
    raise UserError(str(error))
