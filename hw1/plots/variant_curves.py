"""Plot one metric of several variants over each other: seeds as thin lines, their mean as a thick one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hw1.plots.curves import MARKED_EPOCHS, finish_axes
from hw1.plots.style import BLUE, GREEN, ORANGE, Figure, house_style, new_figure
from hw1.utils.text import on_one_line

COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
"""Of the first variants, and again of those after them with other dashes; so are they on the page of `hw1 report`."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 2)))
MAX_LABEL = 60  # characters


@dataclass(frozen=True, eq=False)
class Overlay:
    """The curves of one variant; values of epochs 1, 2, ... of each run.

    Attributes:
        label: Name of the variant.
        finished: Of the finished runs.
        unfinished: Of others, drawn dotted and in no mean.
    """

    label: str
    finished: Sequence[NDArray[np.float64]]
    unfinished: Sequence[NDArray[np.float64]]

    @property
    def lines(self) -> list[NDArray[np.float64]]:
        """All runs."""
        return [*self.finished, *self.unfinished]


def plot_overlay(overlays: Sequence[Overlay], title: str, unit: str) -> Figure:
    """Plot the variants; the mean ends with the shortest finished run.

    Args:
        overlays: The variants.
        title: Title of the figure.
        unit: Label of the y-axis.

    Raises:
        ValueError: There is nothing to plot.
    """
    longest = max((len(line) for overlay in overlays for line in overlay.lines), default=0)
    if not longest:
        raise ValueError("no epochs to plot")
    with house_style():
        columns = 2 if max(len(overlay.label) for overlay in overlays) <= MAX_LABEL // 2 else 1
        rows = -(-len(overlays) // columns)
        figure = new_figure(7.2, 4.2 + 0.22 * rows)
        axes = figure.subplots()
        for number, overlay in enumerate(overlays):
            _draw(axes, overlay, COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)])
        finish_axes(axes, np.arange(1, longest + 1, dtype=np.float64), "", unit)
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        if np.nanmax(np.abs(axes.get_ylim())) < 0.01:  # a learning rate
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        figure.suptitle(title, x=0.02, ha="left", fontsize=11.0, fontweight="bold")
        figure.legend(loc="outside lower left", ncols=columns, columnspacing=1.4, handlelength=2.6)
    return figure


def _draw(axes: Axes, overlay: Overlay, color: str, dashes: Any) -> None:
    label = on_one_line(overlay.label).replace("$", r"\$")  # else it begins a formula
    label = label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"
    seeds, unfinished = len(overlay.finished), len(overlay.unfinished)
    counts = [f"{seeds} seed{'s' * (seeds > 1)}"] * bool(seeds) + [f"{unfinished} unfinished"] * bool(unfinished)
    label = f"{label} ({', '.join(counts)})"
    for line in overlay.unfinished:
        axes.plot(_epochs(line), line, color=color, linestyle=":", linewidth=1.4, label=None if seeds else label)
        label = label if seeds else "_"
    if not seeds:
        return
    if seeds > 1:
        for line in overlay.finished:
            axes.plot(_epochs(line), line, color=color, linestyle=dashes, linewidth=0.7, alpha=0.45)
    length = min(len(line) for line in overlay.finished)
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        mean = np.mean([line[:length] for line in overlay.finished], axis=0)
    mean[~np.isfinite(mean)] = np.nan
    marker = "o" if length <= MARKED_EPOCHS else None
    axes.plot(_epochs(mean), mean, color=color, linestyle=dashes, linewidth=2.0, marker=marker, markersize=3.5, label=label)


def _epochs(line: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arange(1, len(line) + 1, dtype=np.float64)
