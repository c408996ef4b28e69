"""One pass over all files, on all cores: each is read once, hashed, decoded at reduced size and remembered by 1.2 kB."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from hw1.audit.image_hash import DETAIL_SIZE, Signature, sign
from hw1.data.decode import BadImage, decode_image, read_image
from hw1.data.image_headers import PNG_START
from hw1.runtime.cpu import usable_cores

SIGNED_SIDE = 64  # pixels that reduced decoding leaves to the shorter side
CHUNK = 32  # files a thread reads between two looks at the progress bar
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


class Look(NamedTuple):
    """What one file is."""

    num_bytes: int = 0
    digest: bytes = b""
    """BLAKE2b of its bytes."""
    width: int = 0
    height: int = 0
    """As stored, before it is turned upright."""
    traits: tuple[str, ...] = ()
    """In what it differs from plain 8-bit RGB: grey, CMYK, palette, 1-bit, alpha, 16-bit, EXIF-rotated, animated."""
    reason: str = ""
    """Why it cannot be read."""
    signature: Signature | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """The looks at N files, without their signatures, and these as arrays; where a file cannot be read they are zero."""

    looks: list[Look]
    hashes: NDArray[np.uint64]
    """[2, N]: of the image and of its mirror image."""
    detail: NDArray[np.int8]
    """[N, DETAIL_SIZE, DETAIL_SIZE]"""
    has_detail: NDArray[np.bool_]
    """[N]"""


def scan(paths: Sequence[Path]) -> Scan:
    """Looks at every file, with a progress bar on a terminal. A file that cannot be read is a result, not an error."""
    num = len(paths)
    looks: list[Look] = []
    hashes = np.zeros((2, num), np.uint64)
    detail = np.zeros((num, DETAIL_SIZE, DETAIL_SIZE), np.int8)
    has_detail = np.zeros(num, np.bool_)
    for index, look in enumerate(tqdm(_looks(paths), desc="reading images", total=num, unit=" images", disable=None)):
        if look.signature is not None:
            hashes[:, index] = look.signature.hashes
            detail[index] = look.signature.detail
            has_detail[index] = look.signature.has_detail
        looks.append(look._replace(signature=None))
    return Scan(looks, hashes, detail, has_detail)


def _looks(paths: Sequence[Path]) -> Iterator[Look]:
    pool = ThreadPoolExecutor(usable_cores())
    try:
        parts = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
        for part in pool.map(lambda part: [look_at(path) for path in part], parts):
            yield from part
    finally:
        pool.shutdown(cancel_futures=True)


def look_at(path: Path) -> Look:
    try:
        data = path.read_bytes()
    except (OSError, ValueError):
        return Look(reason=_reason(path))
    look = Look(len(data), hashlib.blake2b(data, digest_size=16).digest())
    try:
        image = decode_image(data, SIGNED_SIDE)
    except BadImage as error:
        return look._replace(reason=error.reason)
    return _describe(look, data)._replace(signature=sign(image))


def _reason(path: Path) -> str:
    try:
        read_image(path)
    except BadImage as error:
        return error.reason
    return "cannot be read: it changed meanwhile" if os.path.exists(path) else "no such file"


def _describe(look: Look, data: bytes) -> Look:
    """Adds size and traits, from the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        mode, (width, height) = image.mode, image.size
        traits = [MODES[mode]] if mode in MODES else []
        if image.has_transparency_data:
            traits.append("alpha")
        if mode.startswith("I;16") or (data.startswith(PNG_START) and data[24] == 16):
            traits.append("16-bit")
        if getattr(image, "is_animated", False):
            traits.append("animated")
        try:
            if image.getexif().get(0x0112, 1) in range(2, 9):
                traits.append("EXIF-rotated")
        except Exception:  # Pillow's readers raise whatever broken metadata leads them into; the image itself is sound
            pass
    return look._replace(width=width, height=height, traits=tuple(traits))
