"""Plot a grid of images with titles."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from hw1.plots.style import CellLayout, Figure, house_style, new_grid
from hw1.utils.text import showable

MAX_COLUMNS = 8
CELL_SIDE = 1.65  # inches
TITLE_SIZE = 8.0  # points


def plot_samples(
    images: Sequence[NDArray[np.uint8] | None] | NDArray[np.uint8], titles: Sequence[str], columns: int = MAX_COLUMNS
) -> Figure:
    """Plot images in rows of up to `columns`, each under its title.

    Args:
        images: uint8 [H, W, 3], RGB; None leaves a cell empty.
        titles: Plain text of each image; each line is cut to the cell's width.
        columns: Largest number of columns.

    Raises:
        ValueError: There are no images, or the numbers of images and titles differ.
    """
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"expected a title for each of at least one image, got {len(images)} images and {len(titles)} titles")
    columns = min(columns, len(images))
    num_rows = math.ceil(len(images) / columns)
    title_height = 0.22 + 0.14 * max(title.count("\n") for title in titles)
    layout = CellLayout(CELL_SIDE, above=title_height + 0.04, below=0.06, left=0.05, right=0.05)
    with house_style():
        figure, rows = new_grid(num_rows, columns, layout, xticks=[], yticks=[])
        cells = [cell for row in rows for cell in row]
        for cell in cells:
            cell.set_axis_off()
        for cell, image, title in zip(cells, images, titles, strict=False):
            if image is not None:
                cell.imshow(image, interpolation="nearest" if image.shape[0] < 100 else "antialiased")
            shown = "\n".join(_shorten(line, figure.dpi) for line in showable(title).split("\n"))
            text = cell.set_title(shown, fontsize=TITLE_SIZE, fontweight="normal", loc="center", pad=4.0)
            text.set_parse_math(False)  # in a class name, `$` is a letter
    return figure


def _shorten(title: str, dpi: float) -> str:
    """Return the title, or as much of its beginning as fits into a cell, with an ellipsis."""
    renderer: Any = RendererAgg(1, 1, dpi)  # type: ignore[no-untyped-call]
    font = FontProperties(size=TITLE_SIZE)

    def fits(text: str) -> bool:
        return bool(renderer.get_text_width_height_descent(text, font, ismath=False)[0] <= CELL_SIDE * dpi)

    shown = title
    while shown and not fits(shown):
        title = title[:-1]
        shown = title + "…"
    return shown
