"""albumentations pipelines from uint8 RGB to uint8 RGB: the report's augmentation, and its validation resize."""

import os
import random
from collections.abc import Sequence
from typing import Any, Protocol

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version on import

import albumentations as A
import numpy as np
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.fused import augment_fused
from hw1.data.augment.params import AugmentParams, draw_params, smallest_side, stream_key
from hw1.data.augment.reference import augment_in_steps

NOTHING_DRAWN = AugConfig(scale=(1.0, 1.0), hflip=0, rotation=0, brightness=0, contrast=0, saturation=0, hue=0)


class Transform(Protocol):
    """(uint8 [H, W, 3] RGB, seed words) -> uint8 [S, S, 3] RGB; a pure function of both, and picklable."""

    smallest_side: int | None
    """An image may be decoded at half, a quarter or an eighth of its size while its shorter side has this many pixels; None = never."""

    def __call__(self, image: np.ndarray, seed_words: Sequence[int]) -> np.ndarray: ...


class PillowResize(A.ImageOnlyTransform):
    """Resizes to [size, size] without keeping the aspect: Pillow's bilinear filter, antialiased when it shrinks, bit for bit."""

    def __init__(self, size: int) -> None:
        super().__init__(p=1.0)
        self.size = size

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return np.array(Image.fromarray(img).resize((self.size, self.size), Image.Resampling.BILINEAR))


class ReportPolicy(A.ImageOnlyTransform):
    """RandomResizedCrop, horizontal flip, rotation and ColorJitter, in this order: as `aug.impl` says, drawn the same way for each.

    It draws from `seed_words`, which are given to the pipeline beside `image`, and not from albumentations' generators.
    """

    def __init__(self, aug: AugConfig) -> None:
        super().__init__(p=1.0)
        self.aug = aug

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        return {"augment_params": draw_params(data["seed_words"], height, width, self.aug)}

    def apply(self, img: np.ndarray, augment_params: AugmentParams, **params: Any) -> np.ndarray:
        return (augment_fused if self.aug.impl == "fused" else augment_in_steps)(img, augment_params, self.aug.size)


class SeededPipeline:
    """An albumentations pipeline that draws from nothing but the seed words of each call (a `Transform`).

    The words are `policy.stream_key`'s. A pipeline holds the generators of the call under way: one call at a time (the loader's processes
    have a copy each).
    """

    def __init__(self, steps: Sequence[A.BasicTransform], smallest_side: int | None = None) -> None:
        self.pipeline = A.Compose(list(steps))
        self.smallest_side = smallest_side
        self._draw = random.Random()
        # albumentations' transforms draw from either. Making them anew for each image would take longer than drawing.
        self._bits = np.random.PCG64(0)
        self.pipeline.set_random_state(np.random.Generator(self._bits), self._draw)

    def __call__(self, image: np.ndarray, seed_words: Sequence[int]) -> np.ndarray:
        self._draw.seed(stream_key(seed_words))
        state, increment = self._draw.getrandbits(128), self._draw.getrandbits(128) | 1
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self.pipeline(image=image, seed_words=seed_words)["image"]


def build_train_transform(aug: AugConfig) -> Transform:
    """The report's policy; with all its amounts at zero, the validation resize."""
    if draws_nothing(aug):
        return build_eval_transform(aug)
    return SeededPipeline([ReportPolicy(aug)], smallest_side(aug) if aug.impl == "fused" else None)


def build_eval_transform(aug: AugConfig) -> Transform:
    """Validation and prediction: resize to [size, size] without keeping the aspect; the seed words change nothing."""
    return SeededPipeline([PillowResize(aug.size)])


def draws_nothing(aug: AugConfig) -> bool:
    """Whether all amounts of the policy are zero."""
    return aug.model_copy(update=_amounts(NOTHING_DRAWN)) == aug


def _amounts(aug: AugConfig) -> dict[str, Any]:
    return {name: getattr(aug, name) for name in ("scale", "hflip", "rotation", "brightness", "contrast", "saturation", "hue")}
