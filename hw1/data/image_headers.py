"""What the first bytes of an image file, and the marks between its parts, tell before it is decoded: in microseconds, without a library."""

import struct
import zlib
from typing import NamedTuple

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
# Chunks that OpenCV and Pillow treat alike. Others may hold an orientation, an animation, or a profile that libpng complains about.
PLAIN_PNG_CHUNKS = frozenset(b"IHDR PLTE tRNS gAMA cHRM sRGB sBIT bKGD pHYs tIME IDAT IEND".split())
IMAGE_STARTS = (JPEG_START, PNG_START, b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
NO_IMAGES = (  # what else lies under an image's name, by its first bytes in lower case
    (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"<svg", "SVG"), (b"{", "JSON"), (b"%pdf", "PDF"),
    (b"pk\x03\x04", "ZIP"), (b"\x1f\x8b", "gzip"), (b"version https://git-lfs", "Git LFS pointer"),
)  # fmt: skip


class JpegHeader(NamedTuple):
    width: int
    height: int
    components: int
    may_turn: bool
    """There is metadata (APP1: EXIF, XMP) that may say that the image is to be turned."""
    is_whole: bool
    """The image reaches to its end mark; what cameras append after it does not count."""


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Walks the marker segments up to the first scan (ITU T.81, annex B); None for what is not ordinary 8-bit Huffman-coded JPEG."""
    position, may_turn = 2, False
    frame: tuple[int, int, int] | None = None
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:  # 0xFF is escaped in the coded data: an end mark after this is the image's, and not its thumbnail's
            is_whole = data.endswith(JPEG_END, position) or data.find(JPEG_END, position) > 0
            return None if frame is None else JpegHeader(*frame, may_turn, is_whole)
        if marker in (0xC0, 0xC1, 0xC2):
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            if precision != 8 or height == 0:
                return None
            frame = (width, height, components)
        elif marker == 0xE1:
            may_turn = True
        elif marker < 0xC4 or 0xC5 <= marker <= 0xD9:  # another coding, or a marker that does not belong here
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return JpegHeader(*(frame or (0, 0, 0)), may_turn, False)


def read_plain_png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) if all chunks are there and sound and none of them may be treated differently by OpenCV and Pillow, else None."""
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
    """Why these bytes are not known for an image: one short phrase."""
    if data[4:8] == b"ftyp":
        return f"not supported: {data[8:12].decode('ascii', 'replace').strip()} (convert it to JPEG)"
    if data.startswith(IMAGE_STARTS):
        return "truncated or damaged"
    if data.count(0) == len(data):
        return "not an image (only zeros)"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = [kind for start, kind in NO_IMAGES if head.startswith(start)]
    return f"not an image ({kinds[0]})" if kinds else "not an image"
