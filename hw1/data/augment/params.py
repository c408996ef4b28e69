"""Draw the parameters of the report's augmentation for one image; every implementation of it applies them. No torch, no cv2.

RandomResizedCrop, horizontal flip, rotation, ColorJitter: the parameters are distributed as those of torchvision's transforms of these
names.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from hw1.config.recipe import AugConfig

AUGMENTATION_STREAM = 1  # last seed word here; order has 2 (hw1.data.loader.sampler): no two uses of one seed share a random stream
JITTER = ("brightness", "contrast", "saturation", "hue")
Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


class AugmentParams(NamedTuple):
    """What is done to one image."""

    box: Box
    """The crop, in pixels of the image."""
    flip: bool
    """Whether the crop is mirrored, left to right."""
    angle: float
    """Degrees, counter-clockwise, about the centre of the resized crop."""
    jitter: tuple[tuple[str, float], ...]
    """(name, factor) in the order of application. Names are those of `JITTER`; hue's factor is a fraction of the colour circle."""


def stream_key(seed_words: Sequence[int]) -> int:
    """Return the seed of a `random.Random` for these words: integers of 0 to 2^64 - 1, the same number of them at each call."""
    key = AUGMENTATION_STREAM
    for word in seed_words:
        key = key << 64 | word
    return key


def draw_params(seed_words: Sequence[int], height: int, width: int, aug: AugConfig) -> AugmentParams:
    """Draw the parameters for an image of this size.

    They depend on the arguments only. Nothing is drawn for a step whose amount is zero.

    Args:
        seed_words: See `stream_key`.
        height: Of the image, pixels.
        width: Of the image, pixels.
        aug: The recipe's section `aug`.
    """
    rng = random.Random(stream_key(seed_words))
    box = (0, 0, width, height) if aug.scale == (1.0, 1.0) else _draw_box(rng, height, width, aug)
    flip = aug.hflip > 0 and rng.random() < aug.hflip
    angle = rng.uniform(-aug.rotation, aug.rotation) if aug.rotation else 0.0
    return AugmentParams(box, flip, angle, _draw_jitter(rng, aug))


def smallest_side(aug: AugConfig) -> int:
    """Return the shorter side, in pixels, of the smallest image whose every crop is at least `aug.size` wide and high.

    A crop measures at least sqrt(scale x ratio) of the shorter side, whatever the image's aspect.
    """
    thinnest = min(aug.ratio[0], 1 / aug.ratio[1], 1.0)
    return math.ceil(aug.size / math.sqrt(aug.scale[0] * thinnest))


def _draw_box(rng: random.Random, height: int, width: int, aug: AugConfig) -> Box:
    """Draw an area uniform in `scale` and an aspect log-uniform in `ratio`.

    If ten such boxes do not fit, take the largest central one of a valid aspect.
    """
    low, high = math.log(aug.ratio[0]), math.log(aug.ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*aug.scale)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.random() * (width - w + 1)), int(rng.random() * (height - h + 1)), w, h
    w = min(width, max(round(height * aug.ratio[1]), 1))
    h = min(height, max(round(width / aug.ratio[0]), 1))
    return (width - w) // 2, (height - h) // 2, w, h


def _draw_jitter(rng: random.Random, aug: AugConfig) -> tuple[tuple[str, float], ...]:
    jitter = [(name, rng.uniform(1 - amount, 1 + amount)) for name in JITTER[:3] if (amount := getattr(aug, name))]
    if aug.hue:
        jitter.append(("hue", rng.uniform(-aug.hue, aug.hue)))
    rng.shuffle(jitter)
    return tuple(jitter)
