"""Plot a confusion matrix, readable for three classes and for a hundred."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hw1.plots.style import BLUE, ORANGE, Figure, house_style, new_figure
from hw1.utils.text import showable

MAX_CLASSES = 120
MAX_COUNTED_CLASSES = 20  # up to here a number fits into every cell
MAX_NAME_LENGTH = 24
RIGHT = LinearSegmentedColormap.from_list("right", ["#EAF3F9", BLUE])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#FCE3D6", ORANGE, "#7A2E00"])


def plot_confusion(confusion: NDArray[np.int64], names: Sequence[str], order: NDArray[np.int64]) -> Figure:
    """Plot a confusion matrix, each row normalised to 1; pairs that never occur stay white.

    Correct predictions are blue, wrong ones orange on a scale that shows rare ones too. Up to `MAX_COUNTED_CLASSES` classes each cell names
    its images and their share of the label. Of more than `MAX_CLASSES` classes those with
    most mistakes are drawn, and the title says so.

    Args:
        confusion: Counts [C, C]; row: the label, column: the prediction.
        names: Name of each class; an empty name is replaced by the number of the class.
        order: Permutation [C] of the classes.

    Raises:
        ValueError: The numbers of classes do not match.
    """
    if confusion.shape != (len(names), len(names)) or len(order) != len(names):
        raise ValueError(f"counts {confusion.shape}, {len(names)} names and an order of {len(order)} do not match")
    shown = _most_mistaken(confusion, order)
    counts = confusion[np.ix_(shown, shown)]
    rates = counts / np.maximum(confusion[shown].sum(axis=1, keepdims=True), 1)
    labels = [_shorten(names[c] or str(c)) for c in shown]
    cell = float(np.clip(6.5 / len(shown), 0.14, 0.8))  # inches
    size = cell * len(shown)
    with house_style():
        margin = 1.3 + 0.09 * max(map(len, labels))
        figure = new_figure(size + margin, size + margin + (0.6 if len(shown) > MAX_COUNTED_CLASSES else 0))
        axes = figure.subplots()
        is_diagonal = np.eye(len(shown), dtype=bool)
        right = np.ma.masked_where(~is_diagonal | (counts == 0), rates)
        wrong = np.ma.masked_where(is_diagonal | (counts == 0), rates)
        for left, part, colors, gamma, text in ((0.0, right, RIGHT, 1.0, "right"), (0.52, wrong, WRONG, 0.6, "taken for another")):
            image = axes.imshow(part, cmap=colors, norm=PowerNorm(gamma, 0, 1), interpolation="nearest")
            if len(shown) > MAX_COUNTED_CLASSES:
                _draw_colorbar(axes, image, f"share of the class {text}", left, size)
        if len(shown) <= MAX_COUNTED_CLASSES:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    color = "white" if rates[row, column] > 0.45 else "black"
                    text = f"{count}\n{rates[row, column]:.0%}"
                    axes.text(column, row, text, ha="center", va="center", fontsize=min(9.0, 22 * cell), linespacing=1.1, color=color)
        font_size = 9.0 if len(shown) <= MAX_COUNTED_CLASSES else 6.0
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(range(len(shown)), labels, fontsize=font_size, parse_math=False)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        lines: Any = {"color": "#E3E5E8", "linewidth": 0.4}  # minor grid lines would take ten times as long
        between = np.arange(len(shown) + 1) - 0.5
        axes.hlines(between, between[0], between[-1], **lines)
        axes.vlines(between, between[0], between[-1], **lines)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        if len(shown) < len(names):
            figure.suptitle(f"The {len(shown)} of {len(names)} classes with most mistakes", x=0.02, ha="left")
    return figure


def _draw_colorbar(axes: Axes, image: AxesImage, label: str, left: float, size: float) -> None:
    """Draw a colour bar above the axes of `size` inches, from `left` (0-1 of their width)."""
    inset = axes.inset_axes((left, 1 + 0.3 / size, min(0.45, 2.2 / size), 0.12 / size))
    bar = axes.figure.colorbar(image, cax=inset, orientation="horizontal", ticks=[0, 0.2, 0.5, 1], format=PercentFormatter(1.0))
    bar.ax.tick_params(labelsize=8, length=0)
    bar.ax.set_title(label, fontsize=8, fontweight="normal", pad=3)
    bar.outline.set_visible(False)


def _most_mistaken(confusion: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(order) <= MAX_CLASSES:
        return order
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * np.diag(confusion)
    most_mistaken = np.argsort(-wrong, kind="stable")[:MAX_CLASSES]
    return order[np.isin(order, most_mistaken)]


def _shorten(name: str) -> str:
    return showable(name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…")
