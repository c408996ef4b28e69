"""Read what the header of a JPEG or PNG file says, without a library and in microseconds."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
# 0xFF is escaped in the coded data; restart markers are part of it, and any number of 0xFF may stand before a marker.
SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
START_OF_SCAN = 0xDA
BETWEEN_SCANS = frozenset((0xC4, 0xCC, START_OF_SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))  # tables, number of lines, metadata
UNUSUAL_FRAMES = {
    0xC3: "lossless JPEG",
    0xC9: "arithmetic-coded JPEG",
    0xCA: "arithmetic-coded JPEG",
    0xCB: "lossless JPEG",
    0xF7: "JPEG-LS",
}
UNUSUAL_FRAMES |= dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG")
"""By the marker with which the frame begins."""
LIBJPEG_DAMAGE = re.compile(r"Corrupt JPEG data: ((?:(\d+) extraneous bytes before marker 0x(d[0-79])|(?!bad ICC)).*)")
MAX_BEFORE_RESTART = 16  # bytes; Logitech's webcams leave up to 10
# Chunks that OpenCV and Pillow treat alike. Others may hold an orientation, an animation, or a profile that libpng complains about.
PLAIN_PNG_CHUNKS = frozenset(b"IHDR PLTE tRNS gAMA cHRM sRGB sBIT bKGD pHYs tIME IDAT IEND".split())
PNG_TEXT_CHUNKS = frozenset(b"tEXt zTXt iTXt".split())


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
    scan: int | None
    """Position of the first scan's marker, with which the coded image begins; None if the file ends before it."""
    unusual: str = ""
    """What the file is if it is not ordinary 8-bit Huffman-coded JPEG: "12-bit JPEG". It is read no further then."""


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the marker segments up to the first scan (ITU T.81, annex B).

    Args:
        data: The whole file.

    Returns:
        The header, or None if there is none as it should be.
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
        if marker == START_OF_SCAN:
            return None if frame is None else JpegHeader(*frame, may_be_rotated, position)
        if marker in (0xC0, 0xC1, 0xC2) or marker in UNUSUAL_FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            frame = (width, height, components)
            if marker in UNUSUAL_FRAMES or precision != 8:
                return JpegHeader(*frame, may_be_rotated, None, UNUSUAL_FRAMES.get(marker, f"{precision}-bit JPEG"))
            if height == 0:
                return None
        elif marker == 0xE1:
            may_be_rotated = True
        elif marker < 0xC4 or 0xC5 <= marker <= 0xD9:  # a marker that does not belong here
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return JpegHeader(*(frame or (0, 0, 0)), may_be_rotated, None)


def find_jpeg_end(data: bytes, scan: int) -> tuple[int, str | None]:
    """Follow the segments and scans of a JPEG file up to the image's end marker; what cameras append after that does not count.

    Args:
        data: The whole file.
        scan: Position of the first scan's marker.

    Returns:
        The end marker's position; and what is wrong there if it is none, else None.
    """
    position = scan
    while True:
        segment_end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        found = SCAN_END.search(data, segment_end)
        if found is None:
            return len(data), "truncated"
        position = found.start()
        marker = data[position + 1]
        if marker == JPEG_END[1]:
            return position, None
        if marker not in BETWEEN_SCANS:
            return position, f"damaged: marker 0x{marker:02x} within the image"


def describe_jpeg_damage(message: str, data: bytes, scan: int) -> str | None:
    """Return the damage that a line of libjpeg's tells of; None if it tells of none.

    Zeros and ones may fill the room before the end; and before restart markers webcams leave a few bytes, after which all begins afresh.

    Args:
        message: What libjpeg printed.
        data: The whole file.
        scan: Position of the first scan's marker.
    """
    found = LIBJPEG_DAMAGE.search(message)
    if found is None:
        return None
    message, number, marker = found.groups()
    if number:
        end, damage = find_jpeg_end(data, scan)
        rest = data[end - int(number) : end]
        if damage or (int(number) <= MAX_BEFORE_RESTART if marker != "d9" else not rest.strip(b"\0\xff")):
            return damage
    return f"damaged: {message}"


def read_plain_png_size(data: bytes) -> tuple[int, int] | None:
    """Read the size of a PNG that OpenCV and Pillow decode alike.

    Args:
        data: The whole file.

    Returns:
        (width, height) in pixels; None if a chunk is missing, damaged or not one of `PLAIN_PNG_CHUNKS`.
    """
    size = None
    for kind, position, _, is_intact in _png_chunks(data):
        if kind not in PLAIN_PNG_CHUNKS or not is_intact:
            return None
        if kind == b"IHDR":
            size = struct.unpack_from(">II", data, position + 8)
        if kind == b"IEND":
            return size
    return None


def find_png_damage(data: bytes) -> str | None:
    """Return what is wrong with the chunks that hold the pixels of a PNG file, if anything is: Pillow does not check the last one."""
    for kind, _, end, is_intact in _png_chunks(data):
        if kind == b"IDAT" and not is_intact:
            return "truncated" if end > len(data) else "damaged: wrong checksum"
    return None


def drop_damaged_png_text(data: bytes) -> bytes:
    """Return a PNG file without those of its text chunks whose checksum is wrong: its pixels do not depend on them."""
    damaged = [(start, end) for kind, start, end, is_intact in _png_chunks(data) if kind in PNG_TEXT_CHUNKS and not is_intact]
    for start, end in reversed(damaged):
        data = data[:start] + data[end:]
    return data


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield of each chunk, the last of which the file may end in: its kind, where it starts and ends, and whether its checksum is right."""
    view, position = memoryview(data), len(PNG_START)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        yield kind, position, end, zlib.crc32(view[position + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        position = end
