"""The fused augmentation against its definition written out in float64, and against the same draws carried out step by step."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torchvision.transforms.functional as functional
from helpers.paths import ROOT
from helpers.transform_images import JITTER, difference, in_torchvision, noise, soft_image
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.fused import augment_fused, output_to_crop
from hw1.data.augment.kernels import HUE, adjust_colours
from hw1.data.augment.params import AugmentParams, draw_params
from hw1.data.decode import read_image


def triangle_means(length: int, size: int) -> np.ndarray:
    """float [size, length]: Pillow's bilinear filter along a side that shrinks; one that grows is left to the interpolation."""
    if length <= size:
        return np.eye(length)
    centres = (np.arange(size)[:, None] + 0.5) * length / size
    weights = np.maximum(1 - np.abs(np.arange(length) + 0.5 - centres) * size / length, 0)
    return weights / weights.sum(1, keepdims=True)


def by_definition(array: np.ndarray, params: AugmentParams, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The policy in float64, in torchvision's order: float [S, S, 3], and how far inside the crop each pixel lies, in its pixels."""
    left, top, width, height = params.box
    crop = array[top : top + height, left : left + width].astype(float)
    crop = np.round(np.einsum("yi,xj,ijc->yxc", triangle_means(height, size), triangle_means(width, size), crop, optimize=True))
    height, width = crop.shape[:2]
    row, column = np.mgrid[0:size, 0:size] - (size - 1) / 2
    angle = np.radians(params.angle)
    x, y = column * np.cos(angle) - row * np.sin(angle), column * np.sin(angle) + row * np.cos(angle)  # undo a counter-clockwise turn
    x = (-x if params.flip else x) * width / size + width / 2
    y = y * height / size + height / 2
    inside = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    image = (1 - fy) * ((1 - fx) * crop[y0, x0] + fx * crop[y0, x1]) + fy * ((1 - fx) * crop[y1, x0] + fx * crop[y1, x1])
    image = np.round(image) * (inside >= 0)[..., None]
    for name, factor in params.jitter:
        grey = image @ [0.299, 0.587, 0.114]
        if name == "hue":
            hsv = rgb_to_hsv(image / 255)
            hsv[..., 0] = (hsv[..., 0] + factor) % 1.0
            image = hsv_to_rgb(hsv) * 255
        else:
            other = {"brightness": 0.0, "contrast": np.floor(grey.mean() + 0.5), "saturation": grey[..., None]}[name]
            image = np.clip(factor * image + (1 - factor) * other, 0, 255)
    return image, inside


CASES = {  # name: image, size of the output
    "growing": (soft_image(60, 90, 1), 96),
    "shrinking": (soft_image(125, 130, 2), 96),
    "wide": (soft_image(40, 140, 3), 96),
    "tiny": (noise(5, 4), 32),
    "one pixel": (noise(1, 1), 32),
    "one column": (noise(40, 1), 32),
    "noise": (noise(70, 80), 64),
    "much larger": (soft_image(400, 300, 5), 112),
    "long": (soft_image(700, 160, 6), 112),
    "grey": (np.repeat(noise(70, 80)[..., :1], 3, axis=2), 64),
}


SHRINKING = ("shrinking", "noise", "much larger", "long")


@pytest.mark.parametrize("case", CASES)
def test_equals_the_definition(case):
    """Within half a level, and where the resampled value was rounded the other way, up to twice where the image shrinks, what three factors
    of 1.4 make of one level; but for pixels that lie on the crop's edge."""
    image, size = CASES[case]
    aug = AugConfig(size=size, scale=(0.3, 1.0), rotation=45.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5)
    for index in range(40):
        params = draw_params((1, 0, index), *image.shape[:2], aug)
        expected, inside = by_definition(image, params, size)
        off = np.abs(augment_fused(image, params, size) - expected)[np.abs(inside) > 1e-3]
        # OpenCV 4 knows only 32 positions between two pixels.
        assert off.max() < (12 if cv2.__version__ < "5" else 6 if case in SHRINKING else 3.3)
        assert off.mean() < (0.6 if cv2.__version__ >= "5" else 2)


def test_real_photographs_are_as_torchvision_makes_them():
    """torchvision's second interpolation blurs, where nothing shrinks: 2 to 3 levels of 255 on average. Pillow cuts off half a level in
    each of three steps of the jitter."""
    if "HW1_PHOTOS" not in os.environ:
        pytest.skip("HW1_PHOTOS names no folder of images")
    paths = sorted(Path(os.environ["HW1_PHOTOS"]).glob("train/*/*.jpg"))[::150]
    assert paths
    signed = []
    for index, path in enumerate(paths):
        image = read_image(path)
        params = draw_params((3, 0, index), *image.shape[:2], AugConfig())
        signed.append(augment_fused(image, params, 224).astype(int) - np.asarray(in_torchvision(image, params, 224)))
    assert np.mean([np.abs(each).mean() for each in signed]) < 4
    assert 0 < np.mean([each.mean() for each in signed]) < 2


def test_enlarging_leaves_no_dark_frame():
    white = np.full((9, 7, 3), 255, np.uint8)
    for flip in (False, True):
        assert augment_fused(white, AugmentParams((1, 1, 5, 7), flip, 0.0, ()), 64).min() == 255


@pytest.mark.parametrize("angle", [-180.0, -45.0, -3.0, 0.2, 15.0, 90.0])
@pytest.mark.parametrize("shape", [(20, 30), (96, 96), (200, 300)])
def test_corners_are_black_where_torchvision_has_them_black(angle, shape):
    """But for the outline itself, one pixel wide."""
    ours = augment_fused(np.full((*shape, 3), 255, np.uint8), AugmentParams((0, 0, shape[1], shape[0]), False, angle, ()), 96)
    theirs = np.asarray(functional.rotate(Image.new("L", (96, 96), 255), angle))
    assert set(np.unique(ours)) <= {0, 255}
    near = cv2.dilate(theirs, np.ones((3, 3))), cv2.erode(theirs, np.ones((3, 3)))
    assert np.all(ours[near[0] == 0] == 0)
    assert np.all(ours[near[1] == 255] == 255)


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("shape", [(225, 225), (240, 320), (330, 180), (180, 330), (1000, 1500)])
def test_what_shrinks_is_antialiased_as_pillow_does(shape, size):
    """Unturned and unmirrored, on noise (the hardest case) and on stripes near the finest: within half a level of Pillow's filter."""
    stripes = 127.5 + 127.5 * np.cos(2 * np.pi * 0.47 * np.arange(shape[1]))
    for image in (noise(*shape), np.broadcast_to(stripes[None, :, None], (*shape, 3)).round().astype(np.uint8)):
        left, top = 3, 2
        params = AugmentParams((left, top, shape[1] - 3, shape[0] - 2), False, 0.0, ())
        theirs = Image.fromarray(image[top:, left:]).resize((size, size), Image.Resampling.BILINEAR)
        off = difference(augment_fused(image, params, size), np.asarray(theirs))
        assert off.mean() < 0.5
        assert off.max() <= 3


def test_photographs_shrink_as_pillow_shrinks_them():
    if "HW1_PHOTOS" not in os.environ:
        pytest.skip("HW1_PHOTOS names no folder of images")
    for index, path in enumerate(sorted(Path(os.environ["HW1_PHOTOS"]).glob("train/*/*.jpg"))[::150]):
        image = read_image(path)
        left, top, width, height = draw_params((3, 0, index), *image.shape[:2], AugConfig()).box
        ours = augment_fused(image, AugmentParams((left, top, width, height), False, 0.0, ()), 128)
        theirs = Image.fromarray(image[top : top + height, left : left + width]).resize((128, 128), Image.Resampling.BILINEAR)
        assert difference(ours, np.asarray(theirs)).mean() < 0.5


def test_crop_with_a_view_of_a_larger_image():
    """Rows of a crop are not contiguous in memory; nothing from beside it may come in."""
    image = np.full((50, 80, 3), 255, np.uint8)
    image[10:30, 20:60] = 0
    assert augment_fused(image, AugmentParams((20, 10, 40, 20), False, 15.0, ()), 48).max() == 0


def test_matrix_maps_corners_of_the_output_to_those_of_the_crop():
    corner = np.array([-0.5, -0.5, 1])  # the outer corner of the first pixel
    np.testing.assert_allclose(output_to_crop(30, 20, False, 0.0, 64) @ corner, [-0.5, -0.5])
    np.testing.assert_allclose(output_to_crop(30, 20, True, 0.0, 64) @ corner, [29.5, -0.5])
    # Turned by 90 degrees counter-clockwise, the upper right corner comes to the upper left.
    np.testing.assert_allclose(output_to_crop(30, 20, False, 90.0, 64) @ corner, [29.5, -0.5], atol=1e-12)


def test_hue_of_every_colour_at_any_turn():
    """All of a 17-level cube of colours, turns over the whole circle: within half a level of the HSV formula, grey exactly."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint32)
    red, green, blue = (each.ravel() for each in np.meshgrid(levels, levels, levels))
    packed = (red | green << 8 | blue << 16).reshape(1, -1)
    colours = np.stack([red, green, blue], axis=1)
    hsv = rgb_to_hsv(colours / 255)
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    for sixths in np.linspace(-3, 3, 41):
        out = np.empty_like(packed)
        adjust_colours(packed, out, identity, packed.size, 1, np.array([HUE]), np.array([sixths], np.float32))
        ours = out.view(np.uint8).reshape(-1, 4)[:, :3]
        expected = hsv_to_rgb(np.stack([(hsv[:, 0] + sixths / 6) % 1.0, hsv[:, 1], hsv[:, 2]], axis=1)) * 255
        assert np.abs(ours - expected).max() < 0.51
        grey = (red == green) & (green == blue)
        np.testing.assert_array_equal(ours[grey], colours[grey])


@pytest.mark.parametrize("first", JITTER)
def test_values_are_cut_off_after_every_adjustment(first):
    """A blown-out highlight stays at 255 before the next adjustment darkens it, as in torchvision."""
    image = np.full((16, 16, 3), 250, np.uint8)
    image[:8] = 10
    others = [name for name in JITTER if name != first and name != "hue"]
    jitter = tuple((name, 1.4 if name == first else 0.7) for name in (first, *others))
    params = AugmentParams((0, 0, 16, 16), False, 0.0, jitter)
    assert np.abs(augment_fused(image, params, 16) - by_definition(image, params, 16)[0]).max() < 1


def test_works_where_compiled_code_cannot_be_stored():
    """No folder for compiled code: compiled anew, the same image."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from helpers.transform_images import noise\nfrom hw1.config.recipe import AugConfig\n"
        "from hw1.data.augment.transforms import build_train_transform\n"
        "print(int(build_train_transform(AugConfig(size=32))(noise(40, 50), (1, 2, 3)).astype(int).sum()))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": "/dev/null/nowhere"}
    environment.pop("NUMBA_CACHE_DIR", None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    params = draw_params((1, 2, 3), 40, 50, AugConfig(size=32))
    assert int(result.stdout) == augment_fused(noise(40, 50), params, 32).astype(int).sum()
