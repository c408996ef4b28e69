"""A grid of pictures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hw1.plots.figure import house_style, new_figure, set_plain_text

MAX_COLUMNS = 8
TITLE_LETTERS = 24
CELL_INCHES = 1.75


def plot_samples(images: Sequence[NDArray[np.uint8]], titles: Sequence[str]) -> Figure:
    """Pictures uint8 [S, S, 3] (RGB) in rows of up to eight, each under its title (cut to 24 letters).

    Raises `ValueError` for no pictures, or another number of titles.
    """
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"expected a title for each of at least one picture, got {len(images)} pictures and {len(titles)} titles")
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(len(images) * 1.6)))
    num_rows = math.ceil(len(images) / columns)
    with house_style():
        figure = new_figure(columns * CELL_INCHES, num_rows * (CELL_INCHES + 0.22))
        cells: Any = figure.subplots(num_rows, columns, squeeze=False)
        for cell in cells.flat:
            cell.set_axis_off()
        for cell, image, title in zip(cells.flat, images, titles, strict=False):
            cell.imshow(image, interpolation="nearest" if image.shape[0] < 100 else "antialiased")
            set_plain_text(cell, title if len(title) <= TITLE_LETTERS else title[: TITLE_LETTERS - 1] + "…", size=8.0)
    return figure
