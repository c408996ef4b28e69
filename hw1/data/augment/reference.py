"""The policy step by step, as the report applies it: one image in, one out, 8 bits between the steps. The plain form, to compare with.

albumentations 2.0.8 has each step as well, but its crop does not antialias when it shrinks (`INTER_AREA` neither, when only one side
shrinks), its hue has 180 levels, and its rotation spends as long on matrices as on pixels. Images are uint8 [H, W, 3] RGB.
"""

import math

import cv2
import numpy as np
import torch

from hw1.data.augment.params import AugmentParams, Box


def augment_in_steps(image: np.ndarray, params: AugmentParams, size: int) -> np.ndarray:
    """Crop and resize, flip, turn, jitter; uint8 [size, size, 3]."""
    image = resize_crop(image, params.box, size)
    if params.flip:
        image = cv2.flip(image, 1)
    if params.angle:
        image = rotate(image, params.angle)
    for name, factor in params.jitter:
        image = ADJUST[name](image, factor)
    return image


def resize_crop(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Pillow's bilinear filter, antialiased when it shrinks, as torch implements it: within 2 levels of it, at a third of the time.

    Three channels or four: [H, W, C] -> [size, size, C].
    """
    left, top, width, height = box
    # The batch axis comes first so that torch sees NHWC memory and answers in it: no transposing copy before or after.
    pixels = np.require(image[top : top + height, left : left + width], requirements=["C", "W"])  # torch warns of read-only memory
    crop = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def rotate(image: np.ndarray, angle: float) -> np.ndarray:
    """Turns about the centre, counter-clockwise, degrees; bilinear, where torchvision's RandomRotation takes the nearest pixel; what comes
    from outside the image is black."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    # OpenCV warps four channels in half the time of three, conversions included.
    four = cv2.warpAffine(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), matrix, (width, height), flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """factor x image. The factors here and below are torchvision's."""
    return cv2.addWeighted(image, factor, image, 0.0, 0.0)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the image's mean grey: factor x image + (1 - factor) x grey."""
    grey = math.floor(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.addWeighted(image, factor, image, 0.0, (1 - factor) * grey)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the grey image: factor x image + (1 - factor) x grey image."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0.0)


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Turns the hue by `factor` of the circle; saturation and value stay (HSV, 8 bits each)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV counts 256 hues to the circle on the way to HSV, 255 on the way back.
    hsv[..., 0] = cv2.LUT(hsv[..., 0], np.round((np.arange(256) / 256 + factor) % 1.0 * 255).astype(np.uint8))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


ADJUST = {"brightness": adjust_brightness, "contrast": adjust_contrast, "saturation": adjust_saturation, "hue": adjust_hue}
