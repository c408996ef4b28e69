"""Reliability diagrams: accuracy over confidence, and the number of predictions in each bin."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from hw1.plots.style import BLUE, ORANGE, TEXT, Figure, house_style, new_figure


class ReliabilityBins(Protocol):
    """The part of `hw1.evaluation.calibration.Bins` that is drawn: B bins of predictions by confidence."""

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, [B + 1], in 0-1."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of predictions in each bin, [B]."""

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Mean confidence of each bin, [B], in 0-1."""

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy of each bin, [B], in 0-1."""


def plot_reliability(panels: Mapping[str, ReliabilityBins]) -> Figure:
    """Plot reliability diagrams (Niculescu-Mizil & Caruana 2005) side by side, each over its histogram.

    A bar is the accuracy in a bin; orange marks its mean confidence and the gap between the two.

    Args:
        panels: Title -> bins of each diagram.

    Raises:
        ValueError: There is no panel.
    """
    if not panels:
        raise ValueError("nothing to plot")
    with house_style():
        figure = new_figure(5.2 * len(panels), 6.0)
        grid: Any = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=[3, 1])
        for (above, below), (title, bins) in zip(grid.T, panels.items(), strict=True):
            _draw_reliability(above, bins)
            above.set_title(title)
            below.bar(bins.edges[:-1], bins.counts, np.diff(bins.edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.8)
            below.set_xlabel("confidence of the prediction")
            below.set_xlim(0, 1)
            below.xaxis.set_major_formatter(PercentFormatter(1.0))
            below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
            below.grid(axis="x", visible=False)
        grid[0, 0].set_ylabel("accuracy")
        grid[1, 0].set_ylabel("images")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _draw_reliability(axes: Axes, bins: ReliabilityBins) -> None:
    filled = bins.counts > 0
    left, right = bins.edges[:-1][filled], bins.edges[1:][filled]
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    axes.bar(left, accuracy, right - left, align="edge", color=BLUE, edgecolor="white", linewidth=0.8, alpha=0.75, label="accuracy")
    axes.vlines((left + right) / 2, accuracy, confidence, color=ORANGE, linewidth=1.6)
    axes.hlines(confidence, left, right, color=ORANGE, linewidth=3.0, label="mean confidence")
    axes.plot([0, 1], [0, 1], color=TEXT, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
