"""Augment an image one step at a time, with 8 bits between the steps, as the report does: the plain form, to compare with.

albumentations 2.0.8 has each step as well, but its crop does not antialias when it shrinks (`INTER_AREA` neither, when only one side
shrinks), its hue has 180 levels, and its rotation spends as long on matrices as on pixels. Images are uint8 [H, W, 3], RGB; the factors
are torchvision's.
"""

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hw1.data.augment.params import AugmentParams, Box

Image = NDArray[np.uint8]


def augment_in_steps(image: Image, params: AugmentParams, size: int) -> Image:
    """Crop and resize, flip, rotate and jitter; see `hw1.data.augment.fused.augment_fused`."""
    image = resize_crop(image, params.box, size)
    if params.flip:
        image = _as_image(cv2.flip(image, 1))
    if params.angle:
        image = rotate(image, params.angle)
    for name, factor in params.jitter:
        image = ADJUST[name](image, factor)
    return image


def resize_crop(image: Image, box: Box, size: int) -> Image:
    """Crop and resize with Pillow's bilinear filter, antialiased when it shrinks, as torch implements it: within 2 levels of Pillow's."""
    left, top, width, height = box
    # The batch axis comes first so that torch sees NHWC memory and answers in it: no transposing copy before or after.
    pixels = np.require(image[top : top + height, left : left + width], requirements=["C", "W"])  # torch warns of read-only memory
    crop = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True)
    return _as_image(resized[0].permute(1, 2, 0).numpy())


def rotate(image: Image, angle: float) -> Image:
    """Rotate about the centre by `angle` degrees, counter-clockwise; what comes from outside the image is black.

    The interpolation is bilinear, whereas torchvision's RandomRotation takes the nearest pixel.
    """
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    # OpenCV warps four channels in half the time of three, conversions included.
    four = cv2.warpAffine(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), matrix, (width, height), flags=cv2.INTER_LINEAR)
    return _as_image(cv2.cvtColor(four, cv2.COLOR_RGBA2RGB))


def adjust_brightness(image: Image, factor: float) -> Image:
    """Return factor x image."""
    return _as_image(cv2.addWeighted(image, factor, image, 0.0, 0.0))


def adjust_contrast(image: Image, factor: float) -> Image:
    """Blend with the image's mean grey: factor x image + (1 - factor) x grey."""
    grey = math.floor(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _as_image(cv2.addWeighted(image, factor, image, 0.0, (1 - factor) * grey))


def adjust_saturation(image: Image, factor: float) -> Image:
    """Blend with the grey image: factor x image + (1 - factor) x grey image."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _as_image(cv2.addWeighted(image, factor, grey, 1 - factor, 0.0))


def adjust_hue(image: Image, factor: float) -> Image:
    """Rotate the hue by `factor` of the colour circle; saturation and value (HSV, 8 bits each) do not change."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV counts 256 hues to the circle on the way to HSV, 255 on the way back.
    hsv[..., 0] = cv2.LUT(hsv[..., 0], np.round((np.arange(256) / 256 + factor) % 1.0 * 255).astype(np.uint8))
    return _as_image(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))


def _as_image(array: NDArray[Any]) -> Image:
    return np.asarray(array, np.uint8)  # which it is; OpenCV's stubs leave the type open


ADJUST = {"brightness": adjust_brightness, "contrast": adjust_contrast, "saturation": adjust_saturation, "hue": adjust_hue}
