"""Read what the header of a JPEG or PNG file says, without a library and in microseconds; describe what else a file holds."""

import struct
import zlib
from typing import NamedTuple

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
# Chunks that OpenCV and Pillow treat alike. Others may hold an orientation, an animation, or a profile that libpng complains about.
PLAIN_PNG_CHUNKS = frozenset(b"IHDR PLTE tRNS gAMA cHRM sRGB sBIT bKGD pHYs tIME IDAT IEND".split())
IMAGE_STARTS = (JPEG_START, PNG_START, b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
OTHER_STARTS = (  # first bytes, in lower case, of other files that are often stored under an image's name
    (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"<svg", "SVG"), (b"{", "JSON"), (b"%pdf", "PDF"),
    (b"pk\x03\x04", "ZIP"), (b"\x1f\x8b", "gzip"), (b"version https://git-lfs", "Git LFS pointer"),
)  # fmt: skip


class JpegHeader(NamedTuple):
    """What the marker segments of a JPEG file say."""

    width: int
    """Pixels, as stored."""
    height: int
    """Pixels, as stored."""
    components: int
    """Colour components: 1 grey, 3 YCbCr or RGB, 4 CMYK."""
    may_be_rotated: bool
    """The file has metadata (APP1: EXIF or XMP), which may hold an orientation."""
    is_complete: bool
    """The coded image is followed by its end marker. What cameras append after the marker does not count."""


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the marker segments up to the first scan (ITU T.81, annex B).

    Args:
        data: The whole file.

    Returns:
        The header, or None for anything but ordinary 8-bit Huffman-coded JPEG.
    """
    position, may_be_rotated = 2, False
    frame: tuple[int, int, int] | None = None
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:  # 0xFF is escaped in the coded data: an end marker after this is the image's, and not its thumbnail's
            is_complete = data.endswith(JPEG_END, position) or data.find(JPEG_END, position) > 0
            return None if frame is None else JpegHeader(*frame, may_be_rotated, is_complete)
        if marker in (0xC0, 0xC1, 0xC2):
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            if precision != 8 or height == 0:
                return None
            frame = (width, height, components)
        elif marker == 0xE1:
            may_be_rotated = True
        elif marker < 0xC4 or 0xC5 <= marker <= 0xD9:  # another coding, or a marker that does not belong here
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return JpegHeader(*(frame or (0, 0, 0)), may_be_rotated, False)


def read_plain_png_size(data: bytes) -> tuple[int, int] | None:
    """Read the size of a PNG that OpenCV and Pillow decode alike.

    Args:
        data: The whole file.

    Returns:
        (width, height) in pixels; None if a chunk is missing, damaged or not one of `PLAIN_PNG_CHUNKS`.
    """
    view, position, size = memoryview(data), len(PNG_START), None
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if kind not in PLAIN_PNG_CHUNKS:
            return None
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return None
        if kind == b"IHDR" and length == 13:
            size = struct.unpack_from(">II", data, position + 8)
        if kind == b"IEND":
            return size
        position = end + 4
    return None


def describe_bytes(data: bytes) -> str:
    """Return one short phrase that says why these bytes are not recognised as an image."""
    if data[4:8] == b"ftyp":
        return f"not supported: {data[8:12].decode('ascii', 'replace').strip()} (convert it to JPEG)"
    if data.startswith(IMAGE_STARTS):
        return "truncated or damaged"
    if data.count(0) == len(data):
        return "not an image (only zeros)"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = [kind for start, kind in OTHER_STARTS if head.startswith(start)]
    return f"not an image ({kinds[0]})" if kinds else "not an image"
