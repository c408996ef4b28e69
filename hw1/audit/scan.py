"""Read every file once, on all cores: hash it, decode it at a reduced size, and record what it is in 1.2 kB."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.audit.image_hash import DETAIL_SIZE, Signature, compute_signature
from hw1.data.decode import DARK, ORIENTATION_TAG, BadImage, decode_image, read_image
from hw1.data.file_kinds import count_zeros_at_end, has_16_bits
from hw1.runtime.cpu import map_on_cores

DECODED_SIDE = 64  # pixels that decoding at a reduced size leaves of the shorter side
MODES = {
    "1": "1-bit",
    "L": "grey",
    "LA": "grey",
    "I": "grey",
    "I;16": "grey",
    "I;16B": "grey",
    "P": "palette",
    "CMYK": "CMYK",
}
"""Trait by Pillow's mode."""


class FileFacts(NamedTuple):
    """What one file is."""

    num_bytes: int = 0
    digest: bytes = b""
    """BLAKE2b of the bytes."""
    width: int = 0
    """Pixels, as stored, without EXIF rotation; 0 for a file that cannot be decoded."""
    height: int = 0
    """Likewise."""
    traits: tuple[str, ...] = ()
    """What differs from plain 8-bit RGB: grey, CMYK, palette, 1-bit, nearly black, alpha, 16-bit, EXIF-rotated,
    animated."""
    reason: str = ""
    """Why it cannot be decoded."""
    num_zeros: int = 0
    """Zero bytes at the end of a file that was probably cut short (`count_zeros_at_end`)."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What N files are, and the signatures of their images; of a file that cannot be decoded these are zero."""

    files: list[FileFacts]
    hashes: NDArray[np.uint64]
    """[2, N]: of the image and of its mirror image."""
    detail: NDArray[np.int8]
    """[N, DETAIL_SIZE, DETAIL_SIZE]"""
    has_detail: NDArray[np.bool_]
    """[N]"""


def scan_files(paths: Sequence[Path]) -> Scan:
    """Inspect every file, with a progress bar on a terminal. A file that cannot be decoded is a result, not an error."""
    num = len(paths)
    hashes = np.zeros((2, num), np.uint64)
    detail = np.zeros((num, DETAIL_SIZE, DETAIL_SIZE), np.int8)
    has_detail = np.zeros(num, np.bool_)

    def inspect(index: int) -> FileFacts:
        facts, signature = inspect_file(paths[index])
        if signature is not None:
            hashes[:, index], detail[index], has_detail[index] = signature
        return facts

    return Scan(map_on_cores(inspect, num, "reading images"), hashes, detail, has_detail)


def inspect_file(path: Path) -> tuple[FileFacts, Signature | None]:
    """Read and decode a file; return what it is, and its image's signature, None if it cannot be decoded."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError):
        return FileFacts(reason=_read_error(path)), None
    facts = FileFacts(len(data), hashlib.blake2b(data, digest_size=16).digest())
    try:
        image = decode_image(data, DECODED_SIDE)
    except BadImage as error:
        return facts._replace(reason=error.reason), None
    facts = facts._replace(num_zeros=count_zeros_at_end(data, image))
    return _add_header(facts, data, is_dark=int(image.max()) < DARK), compute_signature(image)


def _read_error(path: Path) -> str:
    try:
        read_image(path)
    except BadImage as error:
        return error.reason
    return "cannot be read: it changed meanwhile" if os.path.exists(path) else "no such file"


def _add_header(facts: FileFacts, data: bytes, *, is_dark: bool) -> FileFacts:
    """Add size and traits, from the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        mode, (width, height) = image.mode, image.size
        traits = [MODES[mode]] if mode in MODES else []
        if is_dark:
            traits.append("nearly black")
        if image.has_transparency_data:
            traits.append("alpha")
        if has_16_bits(data):
            traits.append("16-bit")
        if getattr(image, "is_animated", False):
            traits.append("animated")
        try:
            if image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9):
                traits.append("EXIF-rotated")
        except Exception:  # Pillow's readers raise whatever broken metadata leads them into; the image itself is sound
            pass
    return facts._replace(width=width, height=height, traits=tuple(traits))
