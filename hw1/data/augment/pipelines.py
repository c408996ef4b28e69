"""Build transforms as pipelines of albumentations, which takes long to import: for the steps that a recipe names, and as a reference."""

import os
import random
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version on import

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import AugConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.data.augment.fused import augment_fused
from hw1.data.augment.named_transforms import POLICY, Step, build_named, try_step
from hw1.data.augment.params import AugmentParams, draw_params, smallest_side, stream_key
from hw1.data.augment.plain_transforms import draws_nothing
from hw1.errors import RunError, UserError
from hw1.utils.text import first_line


class EvalResize(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """An `EvalRule` as a transform."""

    def __init__(self, rule: EvalRule) -> None:
        super().__init__(p=1.0)
        self.rule = rule

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Make the square: uint8 [H, W, 3] -> [size, size, 3]."""
        return self.rule(img)


class FusedPolicy(A.ImageOnlyTransform):  # type: ignore[misc]
    """Apply RandomResizedCrop, horizontal flip, rotation and ColorJitter, in this order, by `hw1.data.augment.fused`.

    The parameters are drawn from `seed_words`, which are given to the pipeline beside `image`, and not from albumentations' generators.
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
        return augment_fused(img, augment_params, self.aug.size)


def albumentations_policy(aug: AugConfig) -> list[A.BasicTransform]:
    """Build the same policy from albumentations' own transforms, which draw as torchvision's do but from albumentations' generators.

    A crop that shrinks along both sides is resampled with `INTER_AREA`; one that shrinks along one side only is not antialiased by
    albumentations 2.0.8.
    """
    steps = [A.RandomResizedCrop((aug.size, aug.size), aug.scale, aug.ratio, area_for_downscale="image", p=1.0)]
    if aug.hflip:
        steps.append(A.HorizontalFlip(p=aug.hflip))
    if aug.rotation:
        steps.append(A.Rotate((-aug.rotation, aug.rotation), border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0))
    amounts = {name: getattr(aug, name) for name in ("brightness", "contrast", "saturation")}
    if any(amounts.values()) or aug.hue:
        factors = {name: (1 - amount, 1 + amount) for name, amount in amounts.items()}
        steps.append(A.ColorJitter(**factors, hue=(-aug.hue, aug.hue), p=1.0))
    return steps


class SeededPipeline:
    """A `Transform` made of albumentations' transforms, which draw from nothing but the seed words of each call.

    A pipeline holds the random generators of the call in progress, so that it serves one call at a time (each loader process has a copy).

    Args:
        steps: The transforms.
        size: Height and width of the images that come out; None for any.
        smallest_side: See `Transform`.
    """

    def __init__(self, steps: Sequence[Step], size: int | None = None, smallest_side: int | None = None) -> None:
        self.pipeline = A.Compose(list(steps))
        self.size = size
        self.smallest_side = smallest_side
        self._rng = random.Random()
        # albumentations' transforms draw from either. Making them anew for each image would take longer than drawing.
        self._bits = np.random.PCG64(0)
        self.pipeline.set_random_state(np.random.Generator(self._bits), self._rng)

    def __call__(self, image: NDArray[np.uint8], seed_words: Sequence[int]) -> NDArray[np.uint8]:
        """Transform an image; see `Transform`.

        Raises:
            RunError: A step that the recipe names fails on this image, though it did not on those of `check_transforms`.
        """
        self._rng.seed(stream_key(seed_words))
        state, increment = self._rng.getrandbits(128), self._rng.getrandbits(128) | 1
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        try:
            transformed: NDArray[np.uint8] = self.pipeline(image=image, seed_words=seed_words)["image"]
        except Exception as error:  # whatever it meets
            raise RunError(
                f"aug.transforms: a step fails on an image of {image.shape[0]} x {image.shape[1]} pixels: {first_line(error)}"
            ) from error
        if self.size is not None and transformed.shape != (self.size, self.size, 3):
            raise RunError(f"aug.transforms: an image came out as {list(transformed.shape)}, not at aug.size ({self.size})")
        return transformed


def build_pipeline(aug: AugConfig) -> SeededPipeline:
    """Build the steps of `aug.transforms`.

    Raises:
        UserError: One cannot be built.
    """
    steps = [step for _, step in _named_steps(aug)]
    starts_with_policy = aug.transforms[:1] == (POLICY,) and aug.impl == "fused"
    return SeededPipeline(steps, aug.size, smallest_side(aug) if starts_with_policy else None)


def try_pipeline(aug: AugConfig) -> None:
    """Try the steps of `aug.transforms` on noise; see `hw1.data.augment.transforms.check_transforms`."""
    steps = _named_steps(aug)
    size, generator = aug.size, np.random.default_rng(0)
    for shape in ((size + size // 2, size + size // 3, 3), (size - size // 3, size - size // 4, 3)):
        image = generator.integers(0, 256, shape, np.uint8)
        for chosen in (steps, [pair for pair in steps if pair[1].p == 1]):  # every step that may be taken, and the fewest
            height, width = _try_steps(chosen, image, aug)
            if (height, width) != (size, size):
                raise UserError(
                    f"aug.transforms: {'an image may' if chosen != steps else 'images'} come out at {height} x {width}, not at aug.size "
                    f"({size}): let {POLICY}, or a crop or resize to {size} with p: 1, be among the steps"
                )


def _try_steps(steps: Sequence[tuple[str, Step]], image: NDArray[np.uint8], aug: AugConfig) -> tuple[int, int]:
    """Return the (height, width) of the result."""
    for name, step in steps:
        if isinstance(step, FusedPolicy):  # needs no trial, and draws from seed words, which a trial has not
            image = EvalRule.of(aug)(image)
            continue
        try:
            image = try_step(name, step, image)
        except UserError as error:
            raise UserError(*(f"aug.transforms: {problem}" for problem in error.problems)) from None
    return image.shape[0], image.shape[1]


def _named_steps(aug: AugConfig) -> list[tuple[str, Step]]:
    """Build all steps, each with its name for messages."""
    if aug.transforms.count(POLICY) > 1:
        raise UserError(f"aug.transforms: {POLICY} stands there twice")
    steps: list[tuple[str, Step]] = []
    for position, step in enumerate(aug.transforms, 1):
        if step == POLICY:
            steps += [(POLICY, each) for each in _policy(aug)]
            continue
        try:
            built = build_named(step, aug)
        except UserError as error:
            raise UserError(*(f"aug.transforms: step {position}: {problem}" for problem in error.problems)) from None
        steps.append((f"step {position}: {type(built).__name__}", built))
    return steps


def _policy(aug: AugConfig) -> list[A.BasicTransform]:
    if draws_nothing(aug):
        return [EvalResize(EvalRule.of(aug))]
    return [FusedPolicy(aug)] if aug.impl == "fused" else albumentations_policy(aug)


def augment_step_by_step(aug: AugConfig, image: NDArray[np.uint8], seed_words: Sequence[int]) -> list[tuple[str, NDArray[np.uint8]]]:
    """Apply the steps of the augmentation one after the other, each of them always (p = 1).

    Args:
        aug: The recipe's section `aug`.
        image: uint8 [H, W, 3], RGB.
        seed_words: See `Transform`.

    Returns:
        The name of each step, and the image after it, uint8 [H', W', 3].
    """
    steps = _named_steps(aug)
    for _, step in steps:
        step.p = 1.0
    # The first steps of a pipeline draw what they draw in the whole one.
    return [
        (
            type(step).__name__ if name != POLICY or aug.impl != "fused" else POLICY,
            SeededPipeline([each for _, each in steps[:num]])(image, seed_words),
        )
        for num, (name, step) in enumerate(steps, 1)
    ]
