"""Say what a file holds that is not decoded: an unsupported kind of image, another kind of file, or a damaged image."""

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from hw1.data.image_headers import JPEG_START, PNG_START, read_jpeg_header

DAMAGED = "truncated or damaged"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
IMAGE_STARTS = (PNG_START, b"GIF8", b"BM", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
UNSUPPORTED_STARTS = (
    (b"8BPS", "PSD"), (b"\0\0\1\0", "ICO"), (b"\0\0\2\0\0", "TGA"), (b"\0\0\2\0", "CUR"), (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"v/1\x01", "OpenEXR"), (b"#?RADIANCE", "Radiance HDR"), (b"DDS ", "DDS"), (b"SIMPLE  =", "FITS"),
)  # fmt: skip
OTHER_STARTS = (  # first bytes, in lower case, of other files that are often stored under an image's name
    (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"<svg", "SVG"), (b"{", "JSON"), (b"%pdf", "PDF"),
    (b"pk\x03\x04", "ZIP"), (b"\x1f\x8b", "gzip"), (b"version https://git-lfs", "Git LFS pointer"), (b"\x93numpy", "NumPy array"),
)  # fmt: skip

PNM_HEADER = re.compile(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*(\d+)){3}\s")
"""Width, height and the largest value, which is group 1."""
MIN_ZEROS_CODED, MIN_ZEROS = 256, 4096
"""Zeros at the end of a file that are no chance: of arithmetic-coded kinds, and of others."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, COMPONENTS, PLANES, SAMPLE_FORMAT = 256, 257, 258, 259, 262, 277, 284, 339  # tags of TIFF
WHITE_IS_ZERO, CIELAB = 0, 8
COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", CIELAB: "CIELab"}
SAMPLES = {2: " signed", 3: " float"}


def describe_bytes(data: bytes, *, reads_avif: bool) -> str:
    """Return one short phrase that says why these bytes are not recognised as an image.

    Args:
        data: The whole file.
        reads_avif: Whether a whole AVIF would have been decoded.
    """
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace").strip()
        return DAMAGED if reads_avif and brand in ("avif", "avis") else _not_supported(brand)
    if data.startswith(JPEG_START):
        header = read_jpeg_header(data)
        return _not_supported(header.unusual) if header and header.unusual else DAMAGED
    if data.startswith(TIFF_STARTS):
        return _describe_damaged_tiff(data)
    if data.startswith(IMAGE_STARTS) or (data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b"")):
        return DAMAGED
    if data[128:132] == b"DICM":
        return _not_supported("DICOM")
    unsupported = [kind for start, kind in UNSUPPORTED_STARTS if data.startswith(start)]
    if unsupported:
        return _not_supported(unsupported[0])
    if data.count(0) == len(data):
        return "not an image (only zeros)"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = [kind for start, kind in OTHER_STARTS if head.startswith(start)]
    return f"not an image ({kinds[0]})" if kinds else "not an image"


def has_16_bits(data: bytes) -> bool:
    """Return whether an image that decodes has 16-bit values, of which the high byte is read."""
    if data.startswith(PNG_START):
        return data[24] == 16
    if data.startswith(TIFF_STARTS):
        return _first(_read_tiff_tags(data), BITS) == 16
    pnm = PNM_HEADER.match(data)
    return pnm is not None and int(pnm[1]) > 255


def count_zeros_at_end(data: bytes, image: NDArray[np.uint8]) -> int:
    """Count the zero bytes at the end of a file that decodes, where they stand for what a download that was cut short did not bring.

    Of JPEG, PNG and GIF the decoder notices. Of uncompressed kinds the rows that are missing are black, but so is many a background: where
    the image is black at both ends, its zeros do not count.

    Args:
        data: The whole file.
        image: What it decodes to, uint8 [H, W, 3].
    """
    if data.startswith((JPEG_START, PNG_START, b"GIF8")):
        return 0
    is_webp = data.startswith(b"RIFF")
    content = data[: 8 + int.from_bytes(data[4:8], "little")] if is_webp else data  # what is appended does not count
    num = len(content) - len(content.rstrip(b"\0"))
    if is_webp or data[4:8] == b"ftyp":
        return num if num >= MIN_ZEROS_CODED else 0
    return num if num >= MIN_ZEROS and (image[0].any() or image[-1].any()) else 0


def describe_tiff(tags: Mapping[int, Any]) -> str:
    """Return the reason why a TIFF with these tags is not supported, with what its values are."""
    colour = COLOURS.get(tags.get(PHOTOMETRIC, 1), "colours")
    if tags.get(PLANES) == 2:
        colour += " in planes"
    kind = f"TIFF, {colour}, {tags.get(COMPONENTS, 1)} x {_first(tags, BITS)}-bit{SAMPLES.get(_first(tags, SAMPLE_FORMAT), '')}"
    compression = tags.get(COMPRESSION, 1)
    return _not_supported(kind if compression in TiffImagePlugin.COMPRESSION_INFO else f"{kind}, compression {compression}")


def is_misread_tiff(tags: Mapping[int, Any]) -> bool:
    """Return whether Pillow decodes a TIFF with these tags to other colours than it has, or to values whose range is unknown."""
    in_planes = tags.get(PLANES) == 2 and tags.get(PHOTOMETRIC) == CIELAB
    return in_planes or _first(tags, SAMPLE_FORMAT) in (2, 3) or _first(tags, BITS) > 16


def _describe_damaged_tiff(data: bytes) -> str:
    """Say of a TIFF that Pillow does not recognise what it is; that it is damaged if its tags cannot be read."""
    tags = _read_tiff_tags(data)
    return describe_tiff(tags) if all(tag in tags for tag in (WIDTH, HEIGHT, PHOTOMETRIC)) else DAMAGED


def _read_tiff_tags(data: bytes) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first image, as many as can be read."""
    try:
        is_big = 43 in data[2:4]
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return {}


def _first(tags: Mapping[int, Any], tag: int) -> int:
    """Return a tag's first value, 1 where there is none."""
    value = tags.get(tag, 1)
    return int(value[0] if isinstance(value, tuple) else value)


def _not_supported(kind: str) -> str:
    return f"not supported: {kind} (convert it to JPEG)"
