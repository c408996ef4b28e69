"""The JPEG files that the input pipelines read: images, or images drawn for the purpose."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hw1.data.image_set import ImageSet
from hw1.data.synthetic import draw_image
from hw1.errors import UserError

CLASS = "pictures"  # the one class folder, which timm's dataset needs
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Images:
    images: ImageSet
    """Files `pictures/00000.jpg` ...: in the same order for every reader, however it sorts."""
    origin: str

    def describe(self) -> dict[str, Any]:
        """Origin, count, and medians of width, height and file size in kB."""
        sizes = []
        for index in range(len(self.images)):
            with Image.open(self.images.path(index)) as image:
                sizes.append((*image.size, self.images.path(index).stat().st_size / 1000))
        width, height, kilobytes = np.median(sizes, axis=0)
        return {
            "origin": self.origin,
            "count": len(self.images),
            "width": int(width),
            "height": int(height),
            "kilobytes": round(float(kilobytes), 1),
        }


def copy_photos(folder: Path, num: int, target: Path, seed: int = 0) -> Images:
    """`num` (or all, if there are fewer) of the JPEG files in `folder`, at any depth, copied into `target`.

    Raises UserError where there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file())
    if not found:
        raise UserError(f"{folder}: no JPEG files; name another folder, or none to have images drawn")
    chosen = np.random.default_rng(seed).permutation(len(found))[:num]
    (target / CLASS).mkdir(parents=True)
    for number, index in enumerate(chosen):
        shutil.copyfile(found[index], target / CLASS / f"{number:05d}.jpg")
    name = f"{folder.parent.name}/{folder.name}" if folder.name == "train" else folder.name
    return Images(_image_set(target, len(chosen)), f"images of {name}")


def draw_images(width: int, height: int, num: int, target: Path) -> Images:
    """`num` generated images with noise, JPEG files in `target`; wide ones are drawn at half their size and enlarged."""
    (target / CLASS).mkdir(parents=True)
    enlarged = 2 if max(width, height) > 512 else 1
    side = max(width, height) // enlarged
    for number in range(num):
        rng = np.random.default_rng((1, number))
        square = draw_image(int(rng.integers(100)), side, rng)
        top, left = (side - height // enlarged) // 2, (side - width // enlarged) // 2
        image = cv2.resize(square[top : side - top, left : side - left], (width, height), interpolation=cv2.INTER_CUBIC)
        image = (image + 4 * rng.standard_normal(image.shape, np.float32)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(target / CLASS / f"{number:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Images(_image_set(target, num), "generated images")


def _image_set(root: Path, num: int) -> ImageSet:
    return ImageSet(root, tuple(f"{CLASS}/{number:05d}.jpg" for number in range(num)), np.zeros(num, np.int64), 0)
