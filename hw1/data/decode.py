"""Decode image files to upright RGB arrays. No torch.

OpenCV decodes ordinary JPEG and PNG. Pillow decodes the rest, and whatever the two read differently: CMYK, animations, files with
metadata that may rotate the image, and all other formats, whose support differs from one OpenCV build to the next.
"""

import functools
import io
import os
import warnings

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, features

from hw1.data.file_kinds import DAMAGED, PHOTOMETRIC, WHITE_IS_ZERO, describe_bytes, describe_tiff, is_misread_tiff
from hw1.data.image_headers import (
    JPEG_END,
    JPEG_START,
    PNG_START,
    describe_jpeg_damage,
    drop_damaged_png_text,
    find_jpeg_end,
    find_png_damage,
    read_jpeg_header,
    read_plain_png_size,
)
from hw1.data.image_set import ImageFile
from hw1.utils.library_messages import COLLECTED, LibraryMessages
from hw1.utils.text import printable

MAX_PIXELS = 178_956_970  # Pillow's limit against decompression bombs
RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
REDUCTIONS = ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4), (2, cv2.IMREAD_REDUCED_GRAYSCALE_2))
"""OpenCV's flags by divisor. Despite their names the flag `RGB` decides on the colours."""
ORIENTATION_TAG = 0x0112
DARK = 16
"""An image without a value of at least this is nearly black: so 12-bit values in a 16-bit file are read."""

# What Pillow warns of (large images, odd metadata) would come from any thread, at any time; errors are raised all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Pillow's own reader of uncompressed TIFF takes 16-bit planes for 8-bit ones, and refuses planes beside an alpha one.
TiffImagePlugin.READ_LIBTIFF = bool(features.check("libtiff"))


class BadImage(Exception):
    """A file cannot be decoded. `reason` is one short phrase; `str()` gives path and reason."""

    def __init__(self, reason: str, path: ImageFile | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{printable(self.path)}: {self.reason}"


def read_image(path: ImageFile, smallest_side: int | None = None) -> NDArray[np.uint8]:
    """Read and decode a file, or a member of an archive; see `decode_image`.

    Raises:
        BadImage: The file cannot be read or decoded; names path and reason.
    """
    try:
        return decode_image(path.read_bytes(), smallest_side)
    except BadImage as error:
        raise BadImage(error.reason, path) from error
    except FileNotFoundError as error:
        raise BadImage("dangling link" if os.path.islink(str(path)) else "no such file", path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadImage(f"cannot be read: {reason.lower()}", path) from error


def decode_image(data: bytes, smallest_side: int | None = None) -> NDArray[np.uint8]:
    """Decode an image as Pillow's `exif_transpose` and `convert("RGB")` do, within JPEG tolerance; of 16-bit values take the high byte.

    The content decides on the format. Of an animation the first frame is taken, alpha is dropped, colour profiles are not applied.

    Args:
        data: The whole encoded file.
        smallest_side: Decode a JPEG at 1/2, 1/4 or 1/8 of its width and height, rounded up: the smallest that leaves its shorter side
            this many pixels. libjpeg does that in the cosine transform, in a fraction of the time; the result is antialiased.

    Returns:
        uint8 [H, W, 3], RGB, upright.

    Raises:
        BadImage: The data are no complete image of at most `MAX_PIXELS` pixels.
    """
    if not data:
        raise BadImage("empty file")
    image = None
    if data.startswith(JPEG_START):
        image = _decode_jpeg(data, smallest_side)
    elif data.startswith(PNG_START):
        image = _decode_png(data)
    return _decode_with_pillow(data) if image is None else image


def pillow_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as `decode_image` returns the file that it was opened from: upright, RGB, uint8 [H, W, 3].

    Raises:
        BadImage: Its file is damaged, or its values have no known range.
    """
    try:
        return _to_rgb(_transpose(image), image.format or "")
    except BadImage:
        raise
    except Exception as error:  # Pillow reads a file's pixels only now
        raise BadImage(DAMAGED) from error


def read_size(path: ImageFile) -> tuple[int, int]:
    """Return (height, width) as stored, without EXIF rotation; decode the file only if its header does not tell Pillow.

    Raises:
        BadImage: The file cannot be decoded; names path and reason.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=_pillow_formats()) as image:
            return image.height, image.width
    except Exception:  # whatever it is: decoding decides
        height, width, _ = read_image(path).shape
        return height, width


def _decode_jpeg(data: bytes, smallest_side: int | None) -> NDArray[np.uint8] | None:
    """Return the image, or None where Pillow has to decide; raise BadImage for a truncated file, of which OpenCV may return a part."""
    header = read_jpeg_header(data)
    if header is None or header.unusual:
        return None
    _check_size(header.width, header.height)
    if header.scan is None:
        raise BadImage("truncated")
    # Where libjpeg's messages are to be had, they tell all that the markers do, and at no cost.
    damage = None if COLLECTED and data.endswith(JPEG_END) else find_jpeg_end(data, header.scan)[1]
    flags = RGB if smallest_side is None else RGB | _reduction_flag(min(header.width, header.height), smallest_side)
    if damage is None:
        image, messages = _decode_with_opencv(data, flags)
        damage = describe_jpeg_damage(messages, data, header.scan) if messages else None
    if damage:  # OpenCV returns what could be decoded, and grey for the rest
        raise BadImage(damage)
    if header.components not in (1, 3):  # OpenCV makes CMYK darker by one
        return None
    return _apply_orientation(image, _read_orientation(data)) if image is not None and header.may_be_rotated else image


def _reduction_flag(side: int, smallest_side: int) -> int:
    """Return OpenCV's flag that decodes `side` pixels to the fewest that are at least `smallest_side`; 0 for whole size."""
    return next((flag for divisor, flag in REDUCTIONS if side >= divisor * smallest_side), 0)


def _decode_png(data: bytes) -> NDArray[np.uint8] | None:
    """Return the image, or None where Pillow has to decide."""
    size = read_plain_png_size(data)
    if size is None:
        damage = find_png_damage(data)
        if damage:
            raise BadImage(damage)
        return _decode_with_pillow(drop_damaged_png_text(data))
    _check_size(*size)
    return _decode_with_opencv(data)[0]


def _read_orientation(data: bytes) -> int:
    """Return the EXIF orientation 1-8 that Pillow finds in EXIF or XMP."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # Pillow's readers raise whatever broken metadata leads them into; the image itself is sound
        return 1


def _apply_orientation(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply the EXIF orientation to [H, W, 3]; an unknown one changes nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _decode_with_opencv(data: bytes, flags: int = RGB) -> tuple[NDArray[np.uint8] | None, str]:
    """Return the image, None where it fails; and what the libraries below it say, which does not name the file."""
    with LibraryMessages() as messages:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    return image, messages.text  # type: ignore[return-value]  # uint8 with these flags; the stubs leave None out


@functools.cache
def _pillow_formats() -> list[str]:
    Image.init()
    return [name for name in PILLOW_FORMATS if name in Image.OPEN]


def _decode_with_pillow(data: bytes) -> NDArray[np.uint8]:
    try:
        with LibraryMessages(), Image.open(io.BytesIO(data), formats=_pillow_formats()) as image:
            _check_size(*image.size)
            tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
            if is_misread_tiff(tags):
                raise BadImage(describe_tiff(tags))
            image.load()
            is_negative = image.mode == "I;16" and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO  # which Pillow minds in 8-bit files only
            rgb = _to_rgb(_transpose(image), image.format or "")
            return ~rgb if is_negative else rgb
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise BadImage("too large for the memory") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them into
        raise BadImage(_describe_failure(error, data)) from error


def _describe_failure(error: Exception, data: bytes) -> str:
    """Return why Pillow raised `error`; it says little of what it does not know, such as a compression in a TIFF (KeyError)."""
    if "truncated" in str(error).lower():
        return "truncated"
    if isinstance(error, PIL.UnidentifiedImageError | KeyError) or data.startswith(JPEG_START):
        return describe_bytes(data, reads_avif="AVIF" in _pillow_formats())
    return DAMAGED


def _transpose(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken metadata, as in _read_orientation
        return image


def _to_rgb(image: Image.Image, kind: str) -> NDArray[np.uint8]:
    """Convert any mode to uint8 [H, W, 3]; `kind` is Pillow's name of the format."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):  # Pillow would clip these at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadImage("32-bit values, whose range is unknown")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without a warning
    return np.array(image.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"too large: {width} x {height} pixels")
