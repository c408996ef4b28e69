"""What the report's augmentation draws for one image. Every implementation of the policy starts from these factors. No torch, no cv2.

RandomResizedCrop, horizontal flip, rotation, ColorJitter: the numbers that torchvision's transforms of these names draw.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from hw1.config.recipe import AugConfig

AUGMENTATION_STREAM = 1  # last seed word here; order has 2 (hw1.data.loader.sampler): no two uses of one seed share a random stream
JITTER = ("brightness", "contrast", "saturation", "hue")
Box = tuple[int, int, int, int]


class AugmentParams(NamedTuple):
    box: Box
    """Left, top, width, height of the crop, pixels of the image."""
    flip: bool
    angle: float
    """Degrees, counter-clockwise, about the centre of the resized crop."""
    jitter: tuple[tuple[str, float], ...]
    """(name, factor) in the order of application; names of `JITTER`; hue's factor is a share of the circle."""


def stream_key(seed_words: Sequence[int]) -> int:
    """What a `random.Random` is seeded with for these words: integers of 0 to 2^64 - 1, as many at each call."""
    key = AUGMENTATION_STREAM
    for word in seed_words:
        key = key << 64 | word
    return key


def draw_params(seed_words: Sequence[int], height: int, width: int, aug: AugConfig) -> AugmentParams:
    """The factors for an image of this size: a function of the arguments. Nothing is drawn for a step whose amount is zero."""
    draw = random.Random(stream_key(seed_words))
    box = (0, 0, width, height) if aug.scale == (1.0, 1.0) else _draw_box(draw, height, width, aug)
    flip = aug.hflip > 0 and draw.random() < aug.hflip
    angle = draw.uniform(-aug.rotation, aug.rotation) if aug.rotation else 0.0
    return AugmentParams(box, flip, angle, _draw_jitter(draw, aug))


def smallest_side(aug: AugConfig) -> int:
    """Shorter side, pixels, of the smallest image whose every crop is at least `aug.size` wide and high.

    A crop measures at least sqrt(scale x ratio) of the shorter side, whatever the image's aspect.
    """
    thinnest = min(aug.ratio[0], 1 / aug.ratio[1], 1.0)
    return math.ceil(aug.size / math.sqrt(aug.scale[0] * thinnest))


def _draw_box(draw: random.Random, height: int, width: int, aug: AugConfig) -> Box:
    """Area uniform in `scale`, aspect log-uniform in `ratio`; if ten such boxes do not fit, the largest central one of a valid aspect."""
    low, high = math.log(aug.ratio[0]), math.log(aug.ratio[1])
    for _ in range(10):
        area = height * width * draw.uniform(*aug.scale)
        aspect = math.exp(draw.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(draw.random() * (width - w + 1)), int(draw.random() * (height - h + 1)), w, h
    w = min(width, max(round(height * aug.ratio[1]), 1))
    h = min(height, max(round(width / aug.ratio[0]), 1))
    return (width - w) // 2, (height - h) // 2, w, h


def _draw_jitter(draw: random.Random, aug: AugConfig) -> tuple[tuple[str, float], ...]:
    jitter = [(name, draw.uniform(1 - range_, 1 + range_)) for name in JITTER[:3] if (range_ := getattr(aug, name))]
    if aug.hue:
        jitter.append(("hue", draw.uniform(-aug.hue, aug.hue)))
    draw.shuffle(jitter)
    return tuple(jitter)
