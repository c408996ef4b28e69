"""The policy in two passes: crop, flip and rotation as one affine resampling, then all colours in one compiled loop (`kernels.shade`).

The same image as step by step, within interpolation: one interpolation in place of two, so it is sharper; colours are rounded once; the
rotated image's outline is not blended with the black around it.
"""

import math

import cv2
import numpy as np

from hw1.data.augment.kernels import BRIGHTNESS, CONTRAST, HUE, SATURATION, shade
from hw1.data.augment.params import AugmentParams
from hw1.data.augment.reference import resize_crop

MAX_SHRINK = 1.5
"""From here on the crop is first resized with an antialiasing filter: a bilinear warp reads two pixels a side, and would skip some."""

NAMES = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def augment_fused(image: np.ndarray, params: AugmentParams, size: int) -> np.ndarray:
    """uint8 [H, W, 3] RGB -> uint8 [size, size, 3]."""
    left, top, width, height = params.box
    # Four channels from here on: OpenCV warps them in half the time of three, and a pixel is one 32-bit word for the compiled loop.
    crop = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_RGB2RGBA)
    if max(width, height) > MAX_SHRINK * size:
        crop = resize_crop(crop, (0, 0, width, height), size)
        width = height = size
    matrix = output_to_crop(width, height, params.flip, params.angle, size)
    warped = cv2.warpAffine(crop, matrix, (size, size), flags=FLAGS, borderMode=cv2.BORDER_REPLICATE)
    names = np.array([NAMES[name] for name, _ in params.jitter], np.int64)
    amounts = np.array([factor * 6 if name == "hue" else factor for name, factor in params.jitter], np.float32)
    packed = warped.view(np.uint32)[..., 0]
    shade(packed, packed, matrix, width, height, names, amounts)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def output_to_crop(width: int, height: int, flip: bool, angle: float, size: int) -> np.ndarray:
    """Where each output pixel lies in the crop: float64 [2, 3], (column, row, 1) -> (x, y), both in pixels counted from the first one's
    centre. It undoes, from last to first, the resize to [size, size], the flip, and the turn by `angle` (degrees, counter-clockwise)."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    mirror, centre = -1 if flip else 1, (size - 1) / 2
    x, y = width / size, height / size
    # Pixel centres are half a pixel from the pixels' edges, which are what a resize keeps in place: hence the halves.
    return np.array([
        [x * mirror * cos, -x * mirror * sin, x * (centre + 0.5 - mirror * centre * (cos - sin)) - 0.5],
        [y * sin, y * cos, y * (centre + 0.5 - centre * (sin + cos)) - 0.5],
    ])  # fmt: skip
