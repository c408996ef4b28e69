"""Draw text above an image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hw1.utils.text import showable

MAX_SIDE = 800  # pixels: the image is for display only
MIN_WIDTH = 200  # pixels: room for the text
FONT_SIZE = 15  # pixels
MARGIN = 6  # pixels
LINE_HEIGHT = FONT_SIZE + 5  # pixels
COLORS = ("#202124", "#5F6368")  # of the first line, and of the others


def draw_label(image: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Draw lines of text on a white strip above an image, the first one in black.

    A line that is too long is shortened before its last word, the probability. An image narrower than `MIN_WIDTH` is centred on white.

    Args:
        image: uint8 [H, W, 3], RGB; shrunk to at most `MAX_SIDE` pixels a side.
        lines: The text.

    Returns:
        The image with the strip, uint8 [H', W', 3], RGB.
    """
    small = Image.fromarray(image)
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    strip = LINE_HEIGHT * len(lines) + 2 * MARGIN
    width = max(small.width, MIN_WIDTH)
    canvas = Image.new("RGB", (width, strip + small.height), "white")
    canvas.paste(small, ((width - small.width) // 2, strip))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(findfont("DejaVu Sans"), FONT_SIZE)
    for number, line in enumerate(lines):
        text = _shorten(showable(line), font, width - 2 * MARGIN)
        pen.text((MARGIN, MARGIN + LINE_HEIGHT * number), text, fill=COLORS[min(number, 1)], font=font)
    return np.array(canvas)


def _shorten(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the line, shortened before its last word if it is wider than `width` pixels."""
    name, _, last = line.rpartition(" ")
    shown = line
    while name and font.getlength(shown) > width:
        name = name[:-1]
        shown = f"{name.rstrip()}… {last}"
    return shown
