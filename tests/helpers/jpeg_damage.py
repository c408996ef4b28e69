"""JPEG files, what damage does to them, and whether Pillow refuses the result."""

import io
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from helpers.image_files import save
from helpers.transform_images import soft_image

FORMS: dict[str, dict] = {
    "baseline": {"quality": 90},
    "optimised": {"quality": 90, "optimize": True},
    "progressive": {"quality": 90, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "CMYK": {"quality": 90},
}


def jpeg(form: str, seed: int = 1) -> bytes:
    """About 20 kB, of which each byte matters."""
    noise = np.random.default_rng(seed).integers(-12, 13, (160, 240, 3))
    pixels = Image.fromarray((soft_image(160, 240, seed).astype(int) + noise).clip(0, 255).astype(np.uint8))
    return save(pixels.convert("CMYK") if form == "CMYK" else pixels, "JPEG", **FORMS[form])


def damaged(data: bytes, other: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Each kind of damage once, at a random place in the coded data."""
    at = rng.randrange(len(data) // 4, len(data) * 3 // 4)
    yield "joined", data[: len(data) // 2] + other
    yield "noise", data[:at] + rng.randbytes(1024) + data[at + 1024 :]
    yield "zeros", data[:at] + bytes(1024) + data[at + 1024 :]
    yield "removed", data[:at] + data[at + 1024 :]
    yield "cut, with an end", data[:at] + b"\xff\xd9"
    yield "cut, with zeros", data[:at] + bytes(len(data) - at)


def pillow_refuses(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        return True
    return False
