"""TIFF files as scanners, cameras and microscopes write them: the high byte of each value, or one line that says why not."""

import cv2
import numpy as np
import pytest
from helpers.image_files import assert_close, deep, image, reason_of, save
from helpers.tiff_files import CMYK, LAB, MIN_IS_BLACK, MIN_IS_WHITE, PALETTE, RGB, tiff
from PIL import Image

from hw1.data.decode import decode_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter that hw1.data.decode sets
LAYOUTS: dict[str, dict] = {
    "one strip": {},
    "strips": {"rows_per_strip": 7},
    "tiles": {"tile": 16},
    "compressed": {"deflate": True},
    "predicted": {"deflate": True, "predictor": True},
    "predicted tiles": {"tile": 32, "deflate": True, "predictor": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_in_any_layout(bits: int, planar: bool, order: str, layout: str) -> None:
    values = image() if bits == 8 else deep()
    full = np.full_like(values[:, :, :1], 2**bits - 1)
    options = LAYOUTS[layout] | {"order": order, "planar": planar}
    assert_close(decode_image(tiff(values, RGB, **options)), image())
    for extra in (0, 2):  # unspecified, alpha
        assert_close(decode_image(tiff(np.concatenate([values, full], 2), RGB, extra=extra, **options)), image())
    inks = np.concatenate([full - values, 0 * full], 2)
    assert_close(decode_image(tiff(inks, CMYK, **options)), image(), tolerance=1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero(bits: int, layout: str) -> None:
    values = (image() if bits == 8 else deep())[:, :, :1]
    options = LAYOUTS[layout]
    for data in (tiff(values, MIN_IS_BLACK, **options), tiff(2**bits - 1 - values, MIN_IS_WHITE, **options)):
        assert_close(decode_image(data), image()[:, :, [0, 0, 0]])


def test_palette() -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    numbers = image()[:, :, :1]
    assert_close(decode_image(tiff(numbers, PALETTE, colours=colours)), (colours >> 8).astype(np.uint8).T[numbers[:, :, 0]])


def test_cielab() -> None:
    """OpenCV converts the colours."""
    values = cv2.cvtColor(image(), cv2.COLOR_RGB2LAB)
    values[:, :, 1:] ^= 128  # a and b are signed in the file
    assert np.abs(decode_image(tiff(values, LAB)).astype(int) - image()).mean() < 4
    assert reason_of(tiff(values, LAB, planar=True)) == "not supported: TIFF, CIELab in planes, 3 x 8-bit (convert it to JPEG)"


UNSUPPORTED = {
    "grey, 1 x 32-bit float": (np.float32, 1, MIN_IS_BLACK),
    "RGB, 3 x 32-bit float": (np.float32, 3, RGB),
    "RGB, 3 x 64-bit float": (np.float64, 3, RGB),
    "grey, 1 x 16-bit float": (np.float16, 1, MIN_IS_BLACK),
    "grey, 1 x 32-bit": (np.uint32, 1, MIN_IS_BLACK),
    "RGB, 3 x 32-bit": (np.uint32, 3, RGB),
    "grey, 1 x 32-bit signed": (np.int32, 1, MIN_IS_BLACK),
    "grey, 1 x 16-bit signed": (np.int16, 1, MIN_IS_BLACK),
    "grey, 1 x 8-bit signed": (np.int8, 1, MIN_IS_BLACK),
    "RGB, 3 x 16-bit signed": (np.int16, 3, RGB),
    "grey, 2 x 16-bit": (np.uint16, 2, MIN_IS_BLACK),
    "CIELab, 3 x 16-bit": (np.uint16, 3, LAB),
    "palette, 1 x 16-bit": (np.uint16, 1, PALETTE),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
@pytest.mark.parametrize("order", "<>")
def test_what_is_not_supported_is_named(kind: str, order: str) -> None:
    dtype, components, photometric = UNSUPPORTED[kind]
    colours = np.zeros((3, 2**16), np.uint16) if photometric == PALETTE else None
    values = (image()[:, :, :components] // 2).astype(dtype)
    whole = tiff(values, photometric, order=order, colours=colours)
    assert reason_of(whole) == f"not supported: TIFF, {kind} (convert it to JPEG)"
    for fraction in (0.1, 0.5, 0.9):  # the tags are at the end
        assert reason_of(whole[: int(fraction * values.nbytes)]) == "truncated or damaged"


def test_big_tiff_and_an_unknown_compression() -> None:
    assert_close(decode_image(save(Image.fromarray(image()), "TIFF", big_tiff=True)), image())
    data = save(Image.fromarray(np.ones((4, 5), np.float32)), "TIFF", big_tiff=True)
    assert reason_of(data) == "not supported: TIFF, grey, 1 x 32-bit float (convert it to JPEG)"
    entry = b"\x03\x01\x03\x00\x01\x00\x00\x00"  # tag 259, one short
    unknown = tiff(image(), RGB).replace(entry + b"\x01\0", entry + (34712).to_bytes(2, "little"))
    assert reason_of(unknown) == "not supported: TIFF, RGB, 3 x 8-bit, compression 34712 (convert it to JPEG)"
