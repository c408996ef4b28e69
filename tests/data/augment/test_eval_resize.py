"""The rule by which images become squares, against timm's own evaluation transform."""

import random

import numpy as np
import pytest
import timm.data
from helpers.transform_images import noise
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.eval_resize import CROP_MODES, EvalRule
from hw1.data.augment.transforms import build_eval_transform

MEAN = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("fit", CROP_MODES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_it_is_timms_to_the_bit(fit, interpolation):
    rng = random.Random(f"{fit} {interpolation}")
    for case in range(24):
        size, crop_pct = rng.choice([32, 33, 64]), rng.choice([1.0, 0.875, 0.9, 0.95, 0.5])
        height, width = (rng.randint(20, 200) for _ in range(2)) if case % 3 else (size + rng.randint(-1, 1), size)
        image = noise(height, width, case)
        theirs = timm.data.create_transform(
            (3, size, size), interpolation=interpolation, crop_mode=CROP_MODES[fit], crop_pct=crop_pct, mean=MEAN, std=MEAN, normalize=False
        )
        aug = AugConfig(size=size, fit=fit, crop_pct=crop_pct, interpolation=interpolation, mean=MEAN)
        expected = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(EvalRule.of(aug)(image), expected, err_msg=f"{image.shape} {aug}")
        np.testing.assert_array_equal(build_eval_transform(aug)(image, (1, 2, 3)), expected)


@pytest.mark.parametrize("fit", CROP_MODES)
@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (1, 1), (20_000, 20)])
def test_a_line_of_pixels_is_a_square_too_and_takes_little_memory(fit, height, width):
    column = np.linspace(0, 255, max(height, width)).astype(np.uint8)
    image = np.broadcast_to(column[:, None, None] if height > 1 else column[None, :, None], (height, width, 3)).copy()
    square = EvalRule(64, fit, 0.875, "bilinear", (0, 0, 0))(image)
    assert square.shape == (64, 64, 3)
    if fit != "pad" and max(height, width) > 1:
        assert abs(int(square[32, 32, 0]) - 127) <= 2, "the middle stays the middle"


def test_what_pad_adds_has_the_mean_colour():
    square = EvalRule.of(AugConfig(size=40, fit="pad", mean=MEAN))(np.full((20, 40, 3), 255, np.uint8))
    assert square[0, 0].tolist() == square[-1, -1].tolist() == [26, 128, 230]
    assert (square[10:30] == 255).all()
