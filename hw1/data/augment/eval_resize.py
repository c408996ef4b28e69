"""The one rule by which an image becomes the model's square outside of training: validation, prediction, ONNX, the exported folder.

It is that of timm's evaluation transform on Pillow's images, to the bit, so that timm makes the same image of an exported folder.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.config.recipe import AugConfig

Fit = Literal["squash", "crop", "pad"]
CROP_MODES: dict[Fit, str] = {"squash": "squash", "crop": "center", "pad": "border"}
"""timm's names of the values of `aug.fit`."""
LONGEST = 100
"""An image whose longer side would be resized to more than this many times the shorter one is cut before that, within a pixel the same."""
Box = tuple[float, float, float, float]


class EvalRule(NamedTuple):
    """How an image becomes a square; the keys of `aug` of these names."""

    size: int
    fit: Fit = "squash"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    fill: tuple[int, ...] = (0, 0, 0)
    """Colour of what `fit: pad` adds, 0-255: the mean's."""

    @classmethod
    def of(cls, aug: AugConfig) -> "EvalRule":
        """Return the rule of a recipe whose values are none of them `auto`."""
        rule = cls(aug.size, aug.fit, aug.crop_pct, aug.interpolation)
        return rule.filled_with(aug.mean) if aug.fit == "pad" else rule

    def filled_with(self, mean: Sequence[float]) -> "EvalRule":
        """Return the rule with a colour of values 0-1 for what `pad` adds."""
        return self._replace(fill=tuple(round(255 * value) for value in mean))

    @property
    def resized(self) -> int:
        """Side, in pixels, that the image is resized for before the central square is taken."""
        return math.floor(self.size / self.crop_pct)

    def describe(self) -> str:
        """Say in a few words how an image becomes a square."""
        resized, size, cut = self.resized, self.size, f", the central {self.size} x {self.size} taken" if self.resized != self.size else ""
        ways = {
            "squash": f"resized to {resized} x {resized}{cut}",
            "crop": f"resized to a shorter side of {resized}, the central {size} x {size} taken",
            "pad": f"resized to a longer side of {resized}, filled up with {list(self.fill)}{cut}",
        }
        return f"{ways[self.fit]} ({self.interpolation}, antialiased)"

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make the square: uint8 [H, W, 3] -> [size, size, 3]."""
        height, width = image.shape[:2]
        if self.fit == "squash":
            target = (self.resized, self.resized)
        elif self.fit == "crop":
            shorter = min(height, width)
            target = (self.resized * height // shorter, self.resized * width // shorter)
        else:
            ratio = max(height / self.resized, width / self.resized)
            target = (max(round(height / ratio), 1), max(round(width / ratio), 1))
        return self._centre(self._resize(Image.fromarray(image), *target))

    def _resize(self, image: Image.Image, height: int, width: int) -> Image.Image:
        filter_ = Image.Resampling[self.interpolation.upper()]
        box: Box = (0, 0, image.width, image.height)
        if max(height, width) > LONGEST * self.resized:
            if height > width:
                middle, half, height = image.height / 2, image.height * self.resized / height / 2, self.resized
                box = (0, middle - half, image.width, middle + half)
            else:
                middle, half, width = image.width / 2, image.width * self.resized / width / 2, self.resized
                box = (middle - half, 0, middle + half, image.height)
        return image if image.size == (width, height) and box == (0, 0, width, height) else image.resize((width, height), filter_, box)

    def _centre(self, image: Image.Image) -> NDArray[np.uint8]:
        """Take the central square; what lies outside of the image has the colour `fill`."""
        if image.size == (self.size, self.size):
            return np.array(image)
        left, top = (_start(side, self.size) for side in image.size)
        square = Image.new("RGB", (self.size, self.size), self.fill)
        square.paste(image, (left, top))
        return np.array(square)


def _start(side: int, size: int) -> int:
    """Return where an image's side begins in the square, pixels; below zero for one that is cut. Halves are rounded as timm does."""
    return (size - side) // 2 if side < size else -round((side - size) / 2)
