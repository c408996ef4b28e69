"""Build the transforms from uint8 RGB to uint8 RGB as albumentations pipelines: the report's augmentation, and its validation resize."""

import os
import random
from collections.abc import Sequence
from typing import Any, Protocol

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version on import

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.fused import augment_fused
from hw1.data.augment.params import AugmentParams, draw_params, smallest_side, stream_key
from hw1.data.augment.reference import augment_in_steps

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


class PillowResize(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Resize to [size, size] without keeping the aspect: Pillow's bilinear filter, antialiased when it shrinks, to the bit."""

    def __init__(self, size: int) -> None:
        super().__init__(p=1.0)
        self.size = size

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Resize uint8 [H, W, 3] to [size, size, 3]."""
        return np.array(Image.fromarray(img).resize((self.size, self.size), Image.Resampling.BILINEAR))


class ReportPolicy(A.ImageOnlyTransform):  # type: ignore[misc]
    """Apply RandomResizedCrop, horizontal flip, rotation and ColorJitter, in this order.

    `aug.impl` says by which implementation; each gets the same parameters. They are drawn from `seed_words`, which are given to the
    pipeline beside `image`, and not from albumentations' generators.
    """

    def __init__(self, aug: AugConfig) -> None:
        super().__init__(p=1.0)
        self.aug = aug

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the parameters; albumentations hands them to `apply`."""
        height, width = params["shape"][:2]
        return {"augment_params": draw_params(data["seed_words"], height, width, self.aug)}

    def apply(self, img: NDArray[np.uint8], augment_params: AugmentParams, **params: Any) -> NDArray[np.uint8]:
        """Augment uint8 [H, W, 3] to [S, S, 3]."""
        return (augment_fused if self.aug.impl == "fused" else augment_in_steps)(img, augment_params, self.aug.size)


class SeededPipeline:
    """A `Transform` made of albumentations' transforms, which draw from nothing but the seed words of each call.

    A pipeline holds the random generators of the call in progress, so that it serves one call at a time (each loader process has a copy).

    Args:
        steps: The transforms.
        smallest_side: See `Transform`.
    """

    def __init__(self, steps: Sequence[A.BasicTransform], smallest_side: int | None = None) -> None:
        self.pipeline = A.Compose(list(steps))
        self.smallest_side = smallest_side
        self._rng = random.Random()
        # albumentations' transforms draw from either. Making them anew for each image would take longer than drawing.
        self._bits = np.random.PCG64(0)
        self.pipeline.set_random_state(np.random.Generator(self._bits), self._rng)

    def __call__(self, image: NDArray[np.uint8], seed_words: Sequence[int]) -> NDArray[np.uint8]:
        """Transform an image; see `Transform`."""
        self._rng.seed(stream_key(seed_words))
        state, increment = self._rng.getrandbits(128), self._rng.getrandbits(128) | 1
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        transformed: NDArray[np.uint8] = self.pipeline(image=image, seed_words=seed_words)["image"]
        return transformed


def build_train_transform(aug: AugConfig) -> Transform:
    """Build the report's augmentation; if all its amounts are zero, the validation resize."""
    if _draws_nothing(aug):
        return build_eval_transform(aug)
    return SeededPipeline([ReportPolicy(aug)], smallest_side(aug) if aug.impl == "fused" else None)


def build_eval_transform(aug: AugConfig) -> Transform:
    """Build the resize for validation and prediction: to [size, size] without keeping the aspect; the seed words change nothing."""
    return SeededPipeline([PillowResize(aug.size)])


def _draws_nothing(aug: AugConfig) -> bool:
    """Return whether all amounts of the augmentation are zero."""
    return all(getattr(aug, name) == amount for name, amount in ZERO_AMOUNTS.items())
