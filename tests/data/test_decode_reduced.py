"""Decoding JPEG at a reduced size: only where every crop stays large enough, upright, and as if shrunk with a good filter."""

import io

import numpy as np
import pytest
from helpers.transform_images import soft_image
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.params import draw_params, smallest_side
from hw1.data.augment.transforms import build_eval_transform, build_train_transform
from hw1.data.decode import decode_image
from hw1.data.image_folder import ImageSet
from hw1.data.image_source import FileSource


def jpeg(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (None, (400, 603)),
        (401, (400, 603)),
        (400, (400, 603)),
        (201, (400, 603)),
        (200, (200, 302)),
        (100, (100, 151)),
        (50, (50, 76)),
        (1, (50, 76)),
    ],
)
def test_the_smallest_of_full_half_quarter_eighth_that_is_large_enough(side, expected):
    assert decode_image(jpeg(soft_image(400, 603, 1)), side).shape == (*expected, 3)


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_equals_the_mean_of_the_pixels(divisor):
    image = soft_image(320, 480, 2)
    means = image.reshape(320 // divisor, divisor, 480 // divisor, divisor, 3).mean(axis=(1, 3))
    reduced = decode_image(jpeg(image, subsampling=0), 320 // divisor)
    assert reduced.shape == means.shape
    assert np.abs(reduced - means).mean() < 1


def test_orientation_is_applied_and_colours_keep_their_places():
    image = np.zeros((320, 480, 3), np.uint8)
    image[:, :240] = (200, 30, 90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: the left half comes to the top
    reduced = decode_image(jpeg(image, exif=exif), 80)
    assert reduced.shape == (120, 80, 3)
    assert np.abs(reduced[20, 40].astype(int) - (200, 30, 90)).max() < 4
    assert reduced[100].max() < 4


def test_grey_jpeg_and_png_too():
    grey = Image.fromarray(soft_image(320, 480, 3)).convert("L")
    buffers = {name: io.BytesIO() for name in ("JPEG", "PNG")}
    for name, buffer in buffers.items():
        grey.save(buffer, name)
    assert decode_image(buffers["JPEG"].getvalue(), 40).shape == (40, 60, 3)
    assert decode_image(buffers["PNG"].getvalue(), 40).shape == (320, 480, 3)


@pytest.mark.parametrize("shape", [(290, 290), (290, 1000), (1000, 290), (290, 386)])
def test_no_crop_of_the_smallest_image_is_smaller_than_the_output(shape):
    aug = AugConfig()
    assert smallest_side(aug) == 290
    boxes = [draw_params((5, 0, index), *shape, aug).box for index in range(3000)]
    assert min(min(width, height) for _, _, width, height in boxes) >= 224 - 1  # a side of 224.4 is rounded down


def test_training_decodes_reduced_and_validation_never(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(soft_image(600, 900, 1)))
    images = ImageSet(tmp_path, ("a.jpg",), None, 0)
    for size, impl, shape in ((100, "fused", (300, 450, 3)), (77, "fused", (150, 225, 3)), (77, "albumentations", (600, 900, 3))):
        transform = build_train_transform(AugConfig(size=size, impl=impl))  # 130 and 100 pixels would do; half as many more are decoded
        assert FileSource(images, transform.smallest_side).read(0).shape == shape
    assert build_eval_transform(AugConfig(size=100)).smallest_side is None
