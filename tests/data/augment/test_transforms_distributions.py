"""What the augmentation policy draws is distributed as what torchvision's transforms draw."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import torchvision.transforms as reference
from helpers.transform_images import JITTER, drawn, noise, only
from PIL import Image
from scipy import stats

from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_train_transform


@pytest.fixture(params=["fused", "albumentations"])
def impl(request) -> str:
    return request.param


def ramps(height: int, width: int) -> np.ndarray:
    """Red = column, green = row: tells where each pixel of a result comes from."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns, rows, np.full_like(rows, 90)], axis=2).astype(np.uint8)


def same_distribution(ours, theirs) -> None:
    assert stats.ks_2samp(ours, theirs).pvalue > 0.002, (  # some twenty comparisons
        np.quantile(ours, [0, 0.1, 0.5, 0.9, 1]),
        np.quantile(theirs, [0, 0.1, 0.5, 0.9, 1]),
    )


def crop_boxes(height: int, width: int, count: int, **aug) -> np.ndarray:
    """left, top, width, height of our crops, read from the images that come out; int [count, 4]. Sides of at most 127."""
    transform, image, boxes = build_train_transform(only(128, **aug)), ramps(height, width) * 2, []
    for index in range(count):
        result = transform(image, (7, 0, index))[8:-8, 8:-8].astype(float) / 2
        slope, first = np.polyfit(np.arange(8, 120), np.stack([result[0, :, 0], result[:, 0, 1]], axis=1), 1)
        boxes.append([*(first - slope / 2 + 0.5), *(slope * 128)])  # from the centre of the first pixel to its edge
    assert np.abs(boxes - np.round(boxes)).max() < 0.3
    return np.round(boxes).astype(int)


def reference_boxes(height: int, width: int, count: int, scale=(0.8, 1.0), ratio=(3 / 4, 4 / 3)) -> np.ndarray:
    torch.manual_seed(0)
    image = Image.new("RGB", (width, height))
    boxes = [reference.RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)]
    return np.array([(left, top, w, h) for top, left, h, w in boxes])


@pytest.mark.parametrize(("height", "width", "scale"), [(90, 120, (0.8, 1.0)), (125, 125, (0.3, 0.6))])
def test_crop_has_torchvisions_area_aspect_and_position(height, width, scale, impl):
    ours, theirs = crop_boxes(height, width, 2000, scale=scale, impl=impl), reference_boxes(height, width, 2000, scale)
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / (height * width),
        lambda box: np.log(box[:, 2] / box[:, 3]),
        lambda box: box[:, 0] / (width - box[:, 2] + 1),
        lambda box: box[:, 1] / (height - box[:, 3] + 1),
    ):
        same_distribution(measure(ours), measure(theirs))


@pytest.mark.parametrize(("height", "width"), [(20, 125), (125, 20)])
def test_crop_falls_back_to_the_centre_as_torchvision_does(height, width, impl):
    """No crop of 0.8-1.0 of the area with an aspect within 3/4-4/3 fits into so long an image."""
    ours, theirs = crop_boxes(height, width, 3, scale=(0.8, 1.0), impl=impl), reference_boxes(height, width, 3)
    np.testing.assert_array_equal(ours, theirs)


def test_angle_is_torchvisions(impl):
    """Read from the direction of a diagonal ramp; its slope of 1.3 makes the rounding of small turns average out."""
    rows, columns = np.mgrid[-48:48, -48:48] + 0.5
    image = np.repeat(np.round(127 + 1.3 * (rows + columns))[..., None], 3, axis=2).astype(np.uint8)
    transform, angles, middle = build_train_transform(only(96, rotation=15.0, impl=impl)), [], (slice(24, 72), slice(24, 72))
    for index in range(2000):
        value = transform(image, (7, 0, index))[..., 0].astype(float)
        angles.append(np.degrees(np.arctan2((value * rows)[middle].sum(), (value * columns)[middle].sum())) - 45)
    torch.manual_seed(0)
    same_distribution(angles, [reference.RandomRotation.get_params([-15.0, 15.0]) for _ in range(2000)])
    assert np.array([min(angles), max(angles)]) == pytest.approx([-15, 15], abs=0.2)


@pytest.mark.parametrize("probability", [0.5, 0.2, 1.0])
def test_flip_rate(probability, impl):
    transform, image = build_train_transform(only(16, hflip=probability, impl=impl)), ramps(16, 16)
    results = [transform(image, (7, 0, index)) for index in range(2000)]
    flipped = sum(np.array_equal(result, image[:, ::-1]) for result in results)
    assert flipped + sum(np.array_equal(result, image) for result in results) == 2000
    assert stats.binomtest(flipped, 2000, probability).pvalue > 0.01


@pytest.mark.parametrize("amount", [0.2, 0.5])
def test_hue_shift_is_a_fraction_of_the_circle_either_way(amount, impl):
    """Red rotated by a fraction h of the circle stands at 360 h degrees: green first for positive shifts, blue for negative ones."""
    transform, theirs = build_train_transform(only(16, hue=amount, impl=impl)), reference.ColorJitter(hue=amount)
    torch.manual_seed(0)
    red = np.full((16, 16, 3), (250, 0, 0), np.uint8)
    pillow = Image.fromarray(red)

    def degrees(image) -> float:
        r, g, b = np.asarray(image, dtype=float)[8, 8]
        return float(np.degrees(np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b)))

    ours, expected = [degrees(transform(red, (7, 0, i))) for i in range(1500)], [degrees(theirs(pillow)) for _ in range(1500)]
    same_distribution(ours, expected)
    assert abs(np.mean(ours)) < 5
    assert max(np.abs(ours)) == pytest.approx(360 * amount, abs=2.5)


def test_jitter_draws_torchvisions_factors_independently_and_in_any_order(impl):
    """Brightness, contrast and saturation are read from what was drawn; that they do what torchvision's do is tested on images, below."""
    transform, image, orders, params = build_train_transform(AugConfig(size=16, impl=impl)), noise(20, 20), Counter(), []
    for index in range(2400):
        transform(image, (7, 0, index))
        steps = drawn(transform, image, (7, 0, index)).jitter
        orders[tuple(name for name, _ in steps)] += 1
        params.append([dict(steps)[name] for name in JITTER])
    assert set(orders) == set(itertools.permutations(JITTER))
    assert stats.chisquare(list(orders.values())).pvalue > 0.01
    torch.manual_seed(0)
    theirs = [reference.ColorJitter.get_params([0.8, 1.2], [0.8, 1.2], [0.8, 1.2], [-0.2, 0.2])[1:] for _ in range(2400)]
    for column in range(4):
        same_distribution(np.array(params)[:, column], np.array(theirs)[:, column])
    correlations = np.corrcoef(np.array(params).T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(2400)
