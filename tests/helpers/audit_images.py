"""Photo-like images that are all distinct, what copying does to them, and data folders made of both."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": lambda image: image,
    "resized": lambda image: image.resize((round(image.width * 0.7), round(image.height * 0.7)), Image.Resampling.BICUBIC),
    "enlarged": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "squashed": lambda image: image.resize((224, 224), Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "mirrored and resized": lambda image: ImageOps.mirror(COPIES["resized"](image)),
    "brighter": lambda image: image.point(lambda value: min(value + 12, 255)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.88),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.15),
    "grey": lambda image: image.convert("L"),
}


def make_image(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Colour noise whose strength falls with its frequency, as in images."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 25, 50, 100):
        grid = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        total += cv2.resize(0.3 * grid + 0.7 * grid[:, :, :1], (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.6
    return Image.fromarray((128 + 70 * total / total.std()).clip(0, 255).astype(np.uint8))


def smooth() -> dict[str, Image.Image]:
    """Images without detail, no two equal."""
    y, x = np.mgrid[0:150, 0:200].astype(np.float32)
    arrays = {
        "white": x * 0 + 255,
        "white-ish": x * 0 + 254,
        "black": x * 0,
        "grey": x * 0 + 128,
        "right": x * 1.27,
        "right, less": x,
        "left": 254 - x * 1.27,
        "down": y * 1.69,
        "diagonal": (x + y) * 0.7,
        "round": ((x - 100) ** 2 + (y - 75) ** 2) / 62,
        "noisy": 128 + np.random.default_rng(0).normal(0, 0.5, x.shape),
    }
    return {name: Image.fromarray(array.clip(0, 255).astype(np.uint8)).convert("RGB") for name, array in arrays.items()}


def save(image: Image.Image, path: Path, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": quality} if path.suffix == ".jpg" else {}))
    return path


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cut_short(path: Path, kept: float = 0.7) -> None:
    """Overwrite the end of a file with zeros, as it is where a download into a preallocated file stopped."""
    data = path.read_bytes()
    at = int(kept * len(data))
    path.write_bytes(data[:at] + bytes(len(data) - at))


def clean_root(root: Path, num: int = 4) -> Path:
    """train/ and val/ with classes a and b, and an unlabelled test/; `num` distinct images in each."""
    folders = ["train/a", "train/b", "val/a", "val/b", "test"]
    for position, folder in enumerate(folders):
        for number in range(num):
            save(make_image(1000 * position + number), root / folder / f"{number}.jpg")
    return root
