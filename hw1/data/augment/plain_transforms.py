"""The transforms of most recipes, uint8 RGB to uint8 RGB: the fused augmentation and the validation resize. No albumentations."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import AugConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.data.augment.fused import augment_fused
from hw1.data.augment.params import draw_params, smallest_side

ZERO_AMOUNTS: dict[str, Any] = {
    "scale": (1.0, 1.0), "hflip": 0.0, "rotation": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
}  # fmt: skip
"""The amounts of `AugConfig` with which nothing is drawn."""


class Transform(Protocol):
    """A pure function of an image and seed words, and picklable."""

    smallest_side: int | None
    """An image may be decoded at half, a quarter or an eighth of its size while its shorter side has this many pixels; None: never."""

    def __call__(self, image: NDArray[np.uint8], seed_words: Sequence[int]) -> NDArray[np.uint8]:
        """Transform an image.

        Args:
            image: uint8 [H, W, 3], RGB.
            seed_words: Everything that is drawn depends on these integers (`hw1.data.augment.params.stream_key`).

        Returns:
            uint8 [S, S, 3], RGB.
        """
        ...


class EvalTransform:
    """An `EvalRule` as a `Transform`; the seed words change nothing."""

    smallest_side: int | None = None

    def __init__(self, aug: AugConfig) -> None:
        self.rule = EvalRule.of(aug)

    def __call__(self, image: NDArray[np.uint8], seed_words: Sequence[int]) -> NDArray[np.uint8]:
        """Make the square; see `Transform`."""
        return self.rule(image)


class FusedTransform:
    """Apply RandomResizedCrop, horizontal flip, rotation and ColorJitter, in this order, by `hw1.data.augment.fused`."""

    def __init__(self, aug: AugConfig) -> None:
        self.aug = aug
        self.smallest_side: int | None = smallest_side(aug)

    def __call__(self, image: NDArray[np.uint8], seed_words: Sequence[int]) -> NDArray[np.uint8]:
        """Augment an image; see `Transform`."""
        height, width = image.shape[:2]
        return augment_fused(image, draw_params(seed_words, height, width, self.aug), self.aug.size)


def draws_nothing(aug: AugConfig) -> bool:
    """Return whether all amounts of the augmentation are zero."""
    return all(getattr(aug, name) == amount for name, amount in ZERO_AMOUNTS.items())
