"""Tell by its first bytes whether a file is an image, for names that do not tell. No torch; nothing is decoded."""

import os
from pathlib import Path

from hw1.data.image_headers import JPEG_START, PNG_START

STARTS = (JPEG_START, PNG_START, b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
BRANDS = (b"avif", b"avis")  # of ISO base media files (ISO 14496-12), at byte 8
UNREAD_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL ", b"FUJIFILM", b"IIRO", b"IIU\0", b"8BPS")  # JPEG XL, raw files of cameras, Photoshop
UNREAD_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"crx ")
UNREAD_SUFFIXES = frozenset((
    ".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".psd", ".svg",
))  # fmt: skip


def is_image(path: str | Path) -> bool:
    """Return whether a file begins as an image does that can be decoded; False if it cannot be read."""
    return _is_image(_read_start(path))


def may_be_image(path: str | Path) -> bool:
    """Return whether somebody would call this file an image, whether or not it can be decoded: by its suffix or its first bytes."""
    if os.path.splitext(path)[1].lower() in UNREAD_SUFFIXES:
        return True
    start = _read_start(path)
    return _is_image(start) or start.startswith(UNREAD_STARTS) or (start[4:8] == b"ftyp" and start[8:12] in UNREAD_BRANDS)


def _is_image(start: bytes) -> bool:
    return (
        start.startswith(STARTS)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:12] in BRANDS)
        or (start[:2] == b"BM" and start[6:10] == bytes(4))  # of two letters text may begin with; these four bytes are reserved
    )


def _read_start(path: str | Path) -> bytes:
    """Return the first 16 bytes; of anything but a regular file b"", as a pipe would wait for its other end."""
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb", buffering=0) as file:
            return file.read(16)
    except OSError:
        return b""
