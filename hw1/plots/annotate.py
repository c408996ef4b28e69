"""An image with words above it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hw1.utils.text import showable

MAX_SIDE = 800  # pixels: such an image is to be looked at
MIN_WIDTH = 200  # pixels: room for the words
POINTS = 15
MARGIN = 6
LINE = POINTS + 5
INKS = ("#202124", "#5F6368")


def draw_label(image: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """The image (uint8 [H, W, 3], RGB; shrunk to 800 pixels a side) under a white strip with the lines, the first one in black.

    Of a line that is too long the last word stays, the probability. An image narrower than 200 pixels stands on white.
    """
    small = Image.fromarray(image)
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    strip = LINE * len(lines) + 2 * MARGIN
    width = max(small.width, MIN_WIDTH)
    canvas = Image.new("RGB", (width, strip + small.height), "white")
    canvas.paste(small, ((width - small.width) // 2, strip))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(findfont("DejaVu Sans"), POINTS)
    for number, line in enumerate(lines):
        text = _cut(showable(line), font, width - 2 * MARGIN)
        pen.text((MARGIN, MARGIN + LINE * number), text, fill=INKS[min(number, 1)], font=font)
    return np.array(canvas)


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The line, or as much of its beginning as fits before its last word, the probability."""
    name, _, last = line.rpartition(" ")
    shown = line
    while name and font.getlength(shown) > width:
        name = name[:-1]
        shown = f"{name.rstrip()}… {last}"
    return shown
