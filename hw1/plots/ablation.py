"""Plots of an ablation: mean curves over seeds with bands, two variants on one axis, and the differences of all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hw1.plots.curves import MARKED_EPOCHS, Epoch, column, finish_axes, scale_accuracy
from hw1.plots.style import BLUE, ORANGE, Figure, house_style, new_figure

GREY = "#6B7075"
DASHES = (0, (4, 2))
LABELS = {"val_top1": "top-1 accuracy", "val_loss": "cross-entropy (nats)"}

EpochSequence = Sequence[Epoch]
"""The epochs of one run, in order."""


@dataclass(frozen=True)
class Difference:
    """One line of `plot_differences`: accuracy with minus without a change, in points (hundredths of accuracy).

    Attributes:
        label: Name of the pair.
        mean: Mean over seeds; None if nothing was measured.
        low: Lower end of the 95% interval; None if there is no interval.
        high: Upper end of the 95% interval; None if there is no interval.
        per_seed: The difference of each seed.
        published: The published difference and the ends of its interval, or None.
    """

    label: str
    mean: float | None
    low: float | None
    high: float | None
    per_seed: Sequence[float]
    published: tuple[float, float, float] | None


def plot_training_curve(seeds: Sequence[EpochSequence], title: str) -> Figure:
    """Plot training and validation loss over epochs: the mean over runs with a band of +-1 standard deviation.

    Curves end with the shortest run: a mean over fewer and fewer runs would jump. A single run has no band.

    Args:
        seeds: The epochs of each run.
        title: Title of the figure.

    Raises:
        ValueError: There is no run, or a run has no epochs.
    """
    return _plot([(seeds, "train_loss", "train", ORANGE, DASHES), (seeds, "val_loss", "validation", BLUE, "-")], title, LABELS["val_loss"])


def plot_seeds(variants: Mapping[str, Sequence[EpochSequence]], key: Literal["val_top1", "val_loss"], title: str) -> Figure:
    """Plot validation accuracy or loss of one or two variants on one axis; lines and bands as in `plot_training_curve`.

    Args:
        variants: Label of each variant -> the epochs of each of its runs.
        key: The metric.
        title: Title of the figure.

    Raises:
        ValueError: There are not one or two variants, a variant has no run, or a run has no epochs.
    """
    if not 1 <= len(variants) <= 2:
        raise ValueError(f"one or two variants, got {len(variants)}")
    styles: list[tuple[str, Any]] = [(ORANGE, DASHES), (BLUE, "-")][-len(variants) :]
    parts = [(seeds, key, label, *style) for (label, seeds), style in zip(variants.items(), styles, strict=True)]
    figure = _plot(parts, title, LABELS[key])
    if key == "val_top1":
        scale_accuracy(figure.axes[0])
    return figure


def plot_differences(differences: Sequence[Difference], title: str) -> Figure:
    """Plot one line per pair, from the top: the mean difference with its interval, each seed as a tick, the published difference below.

    Raises:
        ValueError: There is no pair.
    """
    if not differences:
        raise ValueError("no differences to plot")
    with house_style():
        figure = new_figure(8.2, 1.5 + 0.58 * len(differences))
        axes = figure.subplots()
        axes.axvline(0, color=GREY, linewidth=1.0)
        published: Any = {"fmt": "D", "color": GREY, "markersize": 4.5, "markerfacecolor": "white", "linewidth": 1.0, "capsize": 2.5}
        ours: Any = {"fmt": "o", "color": BLUE, "markersize": 6.5, "linewidth": 1.8, "capsize": 4.0}
        for y, item in enumerate(differences):
            if item.mean is not None:
                low, high = (item.mean if end is None else end for end in (item.low, item.high))
                axes.errorbar(item.mean, y - 0.06, xerr=[[item.mean - low], [high - item.mean]], zorder=3, **ours)
                axes.plot(item.per_seed, [y - 0.3] * len(item.per_seed), "|", color=ORANGE, markersize=8, markeredgewidth=1.6)
            if item.published:
                mean, low, high = item.published
                axes.errorbar(mean, y + 0.22, xerr=[[mean - low], [high - mean]], zorder=2, **published)
        axes.errorbar([], [], xerr=[[], []], label="mean over seeds, 95% t interval", **ours)
        axes.plot([], [], "|", color=ORANGE, markersize=8, markeredgewidth=1.6, label="one seed")
        if any(item.published for item in differences):
            axes.errorbar([], [], xerr=[[], []], label="published: one run each, 95% interval", **published)
        axes.set_yticks(range(len(differences)), [item.label for item in differences])
        axes.set_ylim(len(differences) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("difference of last-epoch validation accuracy, points")
        _frame(figure, title, num_columns=3)
    return figure


def _plot(parts: Sequence[tuple[Sequence[EpochSequence], str, str, str, Any]], title: str, ylabel: str) -> Figure:
    if any(not len(seeds) or not all(len(epochs) for epochs in seeds) for seeds, *_ in parts):
        raise ValueError("no epochs to plot")
    with house_style():
        figure = new_figure(6.4, 4.5)
        axes = figure.subplots()
        for seeds, key, label, color, linestyle in parts:
            _band(axes, seeds, key, label, color, linestyle)
        longest = max((_common_epochs(seeds) for seeds, *_ in parts), key=len)
        finish_axes(axes, longest, "", ylabel)
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        _frame(figure, title, num_columns=1)
    return figure


def _frame(figure: Figure, title: str, *, num_columns: int) -> None:
    """Put the title above and the legend below the whole figure: labels of variants are longer than an axis is wide."""
    figure.suptitle(title, x=0.02, ha="left", fontsize=11.0, fontweight="bold")
    figure.legend(loc="outside lower left", ncols=num_columns, columnspacing=1.4, handlelength=2.6)


def _band(axes: Axes, seeds: Sequence[EpochSequence], key: str, label: str, color: str, linestyle: Any) -> None:
    x = _common_epochs(seeds)
    values: NDArray[np.float64] = np.stack([column(epochs[: len(x)], key) for epochs in seeds])
    mean = values.mean(axis=0)
    count = f"{len(seeds)} seed" + "s" * (len(seeds) > 1)
    marker = "o" if len(x) <= MARKED_EPOCHS else None
    axes.plot(x, mean, color=color, linestyle=linestyle, marker=marker, markersize=3.5, label=f"{label} ({count})")
    if len(seeds) > 1:
        std = values.std(axis=0, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)


def _common_epochs(seeds: Sequence[EpochSequence]) -> NDArray[np.float64]:
    """Return the numbers of the epochs that all runs have."""
    return column(min(seeds, key=len), "epoch")
