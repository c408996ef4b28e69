"""The report's augmentation and its validation resize: albumentations pipelines from uint8 RGB to uint8 RGB.

Every transform draws the numbers torchvision's transform of the same purpose draws; what differs is resampling and rounding, and is said
where it does. albumentations 2.0.8 has each step as well, but its crop does not antialias when it shrinks (`INTER_AREA` neither, when only
one side shrinks), its hue has 180 levels, and its rotation spends as long on matrices as on pixels.
"""

import math
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version on import

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image

from hw1.config import AugConfig

Transform = Callable[[np.ndarray, Sequence[int]], np.ndarray]
"""(uint8 [H, W, 3] RGB, seed words) -> uint8 [S, S, 3] RGB; a pure function of both, and picklable."""

AUGMENTATION_STREAM = 1  # last seed word here; order has 2 (hw1.data.sampler): no two uses of one seed share a random stream


class PillowResize(A.ImageOnlyTransform):
    """Resizes to [size, size] without keeping the aspect: Pillow's bilinear filter, antialiased when it shrinks, bit for bit."""

    def __init__(self, size: int) -> None:
        super().__init__(p=1.0)
        self.size = size

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return np.array(Image.fromarray(img).resize((self.size, self.size), Image.Resampling.BILINEAR))


class ResizedCrop(A.RandomResizedCrop):
    """RandomResizedCrop whose resize is Pillow's filter as torch implements it for uint8: within 2 levels of it, at a third of the time."""

    def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        left, top, right, bottom = crop_coords
        # The batch axis comes first so that torch sees NHWC memory and answers in it: no transposing copy before or after.
        crop = torch.from_numpy(np.ascontiguousarray(img[top:bottom, left:right]))[None].permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(crop, self.size, mode="bilinear", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()


class Rotation(A.ImageOnlyTransform):
    """Turns about the centre by an angle uniform in +-degrees, bilinear; what comes from outside the picture is black.

    torchvision's RandomRotation takes the nearest pixel; the angle's sense (counter-clockwise) is the same.
    """

    def __init__(self, degrees: float) -> None:
        super().__init__(p=1.0)
        self.degrees = degrees

    def get_params(self) -> dict[str, Any]:
        return {"angle": self.py_random.uniform(-self.degrees, self.degrees)}

    def apply(self, img: np.ndarray, angle: float, **params: Any) -> np.ndarray:
        height, width = img.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        # OpenCV warps four channels in half the time of three, conversions included.
        four = cv2.warpAffine(cv2.cvtColor(img, cv2.COLOR_RGB2RGBA), matrix, (width, height), flags=cv2.INTER_LINEAR)
        return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)


class ColorJitter(A.ImageOnlyTransform):
    """torchvision's ColorJitter: brightness, contrast, saturation and hue, each by a factor of its own, in random order.

    Factors are uniform in 1 -+ brightness, contrast and saturation; the hue shift is uniform in -+ hue, a share of the circle.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        super().__init__(p=1.0)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def get_params(self) -> dict[str, Any]:
        ranges = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        factors = {name: self.py_random.uniform(1 - range_, 1 + range_) for name, range_ in ranges.items() if range_}
        if self.hue:
            factors["hue"] = self.py_random.uniform(-self.hue, self.hue)
        order = list(factors)
        self.py_random.shuffle(order)
        return {"steps": [(name, factors[name]) for name in order]}

    def apply(self, img: np.ndarray, steps: Sequence[tuple[str, float]], **params: Any) -> np.ndarray:
        for name, factor in steps:
            img = _ADJUST[name](img, factor)
        return img


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """factor x image. uint8 [H, W, 3] RGB, as for all four; the factors are torchvision's."""
    return cv2.addWeighted(image, factor, image, 0.0, 0.0)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the picture's mean grey: factor x image + (1 - factor) x grey."""
    grey = math.floor(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.addWeighted(image, factor, image, 0.0, (1 - factor) * grey)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the grey picture: factor x image + (1 - factor) x grey picture."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0.0)


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Turns the hue by `factor` of the circle; saturation and value stay (HSV, 8 bits each)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV counts 256 hues to the circle on the way to HSV, 255 on the way back.
    hsv[..., 0] = cv2.LUT(hsv[..., 0], np.round((np.arange(256) / 256 + factor) % 1.0 * 255).astype(np.uint8))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


_ADJUST = {"brightness": adjust_brightness, "contrast": adjust_contrast, "saturation": adjust_saturation, "hue": adjust_hue}


class SeededPipeline:
    """An albumentations pipeline that draws from nothing but the seed words of each call (a `Transform`).

    Words are integers >= 0, as many at each call. A pipeline holds the generators of the call under way: one call at a time (the loader's
    processes have a copy each).
    """

    def __init__(self, steps: Sequence[A.BasicTransform]) -> None:
        self.pipeline = A.Compose(list(steps))

    def __call__(self, image: np.ndarray, seed_words: Sequence[int]) -> np.ndarray:
        # Two generators because albumentations' transforms draw from either. New ones are faster than `set_random_seed`, which makes a
        # pair for every step, and leave nothing of the call before (25 us against 200 us).
        bits = np.random.PCG64((*seed_words, AUGMENTATION_STREAM))
        self.pipeline.set_random_state(np.random.Generator(bits), random.Random(int(bits.random_raw())))
        return self.pipeline(image=image)["image"]


def build_train_transform(aug: AugConfig) -> Transform:
    """The report's policy: RandomResizedCrop, horizontal flip, rotation, ColorJitter, in this order.

    A step whose amount is zero is left out; of a crop with scale (1, 1) the resize of the whole picture remains, as in validation.
    """
    size = (aug.size, aug.size)
    steps: list[A.BasicTransform] = []
    if aug.scale == (1.0, 1.0):
        steps.append(PillowResize(aug.size))
    else:
        steps.append(ResizedCrop(size, scale=aug.scale, ratio=aug.ratio, p=1.0))
    if aug.hflip:
        steps.append(A.HorizontalFlip(p=aug.hflip))
    if aug.rotation:
        steps.append(Rotation(aug.rotation))
    if aug.brightness or aug.contrast or aug.saturation or aug.hue:
        steps.append(ColorJitter(aug.brightness, aug.contrast, aug.saturation, aug.hue))
    return SeededPipeline(steps)


def build_eval_transform(aug: AugConfig) -> Transform:
    """Validation and prediction: resize to [size, size] without keeping the aspect; the seed words change nothing."""
    return SeededPipeline([PillowResize(aug.size)])
