"""Augment an image in few passes: shrink, antialiased; crop, flip and rotate by one affine resampling; adjust colours in one compiled loop.

The result is torchvision's in float64 but for about one level of 255 on average. One interpolation takes the place of two where the image
does not shrink, so that it is sharper; colours are rounded once; the rotated image's outline is not blended with the black around it.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.data.augment.kernels import BRIGHTNESS, CONTRAST, HUE, SATURATION, adjust_colours, shrink_rows
from hw1.data.augment.params import AugmentParams

MAX_SHRINK = 4
"""A crop more than this many times longer than the output goes to Pillow: it has taken long to decode, and `shrink_rows` is too coarse."""

KINDS = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def augment_fused(image: NDArray[np.uint8], params: AugmentParams, size: int) -> NDArray[np.uint8]:
    """Apply the parameters.

    Args:
        image: uint8 [H, W, 3], RGB.
        params: Drawn for an image of this size (`draw_params`).
        size: Height and width of the output, pixels.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    left, top, width, height = params.box
    crop = image[top : top + height, left : left + width]
    if max(width, height) > MAX_SHRINK * size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR))
        width = height = size
    # Four channels from here on: OpenCV warps them in half the time of three, and a pixel is one 32-bit word for the compiled loop.
    crop = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2RGBA), np.uint8)
    # A bilinear warp reads two pixels a side, and would skip some of a side that shrinks: such a side is brought to its length before.
    if height > size:
        crop, height = shrink_height(crop, size), size
    is_transposed = width > size
    if is_transposed:  # and stays so: the warp undoes it for nothing
        crop, width = shrink_height(np.asarray(cv2.transpose(crop), np.uint8), size), size
    matrix = output_to_crop(width, height, params.flip, params.angle, size)
    crop_matrix = np.ascontiguousarray(matrix[::-1]) if is_transposed else matrix
    warped = cv2.warpAffine(crop, crop_matrix, (size, size), flags=FLAGS, borderMode=cv2.BORDER_REPLICATE)
    kinds = np.array([KINDS[name] for name, _ in params.jitter], np.int64)
    factors = np.array([factor * 6 if name == "hue" else factor for name, factor in params.jitter], np.float32)
    packed = warped.view(np.uint32)[..., 0]
    adjust_colours(packed, packed, matrix, width, height, kinds, factors)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), np.uint8)


def shrink_height(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Shrink an image to `size` rows with Pillow's bilinear filter, antialiased: uint8 [H, W, C] -> [size, W, C]."""
    shrunk = np.empty((size, *image.shape[1:]), np.uint8)
    shrink_rows(image.reshape(len(image), -1), shrunk.reshape(size, -1))
    return shrunk


def output_to_crop(width: int, height: int, flip: bool, angle: float, size: int) -> NDArray[np.float64]:
    """Return the matrix that maps each output pixel to its position in the crop.

    It undoes, from last to first, the resize to [size, size], the flip and the rotation.

    Args:
        width: Of the crop, pixels.
        height: Of the crop, pixels.
        flip: Whether the resized crop is mirrored.
        angle: Rotation in degrees, counter-clockwise.
        size: Height and width of the output, pixels.

    Returns:
        float64 [2, 3]: (column, row, 1) -> (x, y), both in pixels from the centre of the first one.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    mirror, centre = -1 if flip else 1, (size - 1) / 2
    x, y = width / size, height / size
    # Pixel centres are half a pixel from the pixels' edges, which are what a resize keeps in position: hence the halves.
    return np.array([
        [x * mirror * cos, -x * mirror * sin, x * (centre + 0.5 - mirror * centre * (cos - sin)) - 0.5],
        [y * sin, y * cos, y * (centre + 0.5 - centre * (sin + cos)) - 0.5],
    ])  # fmt: skip
