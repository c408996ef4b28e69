"""Plots of an ablation: mean curves over seeds with bands, two variants on one axis, and the differences of all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hw1.plots.curves import MARKED_EPOCHS, Epoch, column, finish_axes
from hw1.plots.style import GREY, PUBLISHED, TRAIN, VALIDATION, WITH, WITHOUT, Figure, blank_figure, house_style, new_figure, text_width

DASHES = (0, (4, 2))
LABELS = {"val_top1": "top-1 accuracy", "val_loss": "cross-entropy (nats)"}
WINDOW_EPOCHS = 20
"""From here on, the later half of the epochs has a panel of its own: the first epochs would leave it a few pixels."""

# Sizes in inches; narrow, so that a phone shows the letters large enough.
WIDTH, LEFT, RIGHT, MARGIN = 5.2, 0.78, 0.16, 0.12
TITLE_LINE, LEGEND_LINE, TABLE_LINE = 0.21, 0.22, 0.21
PANEL, PANEL_ABOVE, PANEL_BELOW = 1.9, 0.34, 0.52
COLUMN_GAP = 0.2

EpochSequence = Sequence[Epoch]
"""The epochs of one run, in order."""


class TableRow(NamedTuple):
    """A row of the table under a figure: its name, its values, and whether they are published."""

    name: str
    values: Sequence[str]
    is_published: bool = False


class SummaryTable(NamedTuple):
    """The table under a figure: the headings of its values, and its rows."""

    headings: Sequence[str] = ()
    rows: Sequence[TableRow] = ()


NO_TABLE = SummaryTable()


class _Curve(NamedTuple):
    label: str
    seeds: Sequence[EpochSequence]
    key: str
    color: str
    linestyle: Any


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


def plot_training_curve(seeds: Sequence[EpochSequence], title: str, table: SummaryTable = NO_TABLE) -> Figure:
    """Plot training and validation loss over epochs: the mean over runs with a band of +-1 standard deviation.

    Curves end with the shortest run: a mean over fewer and fewer runs would jump. A single run has no band. From `WINDOW_EPOCHS` on, a
    second panel shows the later half of the epochs.

    Args:
        seeds: The epochs of each run.
        title: Title of the figure.
        table: What stands under it.

    Raises:
        ValueError: There is no run, or a run has no epochs.
    """
    curves = [_Curve("train", seeds, "train_loss", TRAIN, DASHES), _Curve("validation", seeds, "val_loss", VALIDATION, "-")]
    return _plot(curves, title, LABELS["val_loss"], table)


def plot_seeds(
    variants: Mapping[str, Sequence[EpochSequence]], key: Literal["val_top1", "val_loss"], title: str, table: SummaryTable = NO_TABLE
) -> Figure:
    """Plot validation accuracy or loss of one or two variants on one axis; panels, lines and bands as in `plot_training_curve`.

    Args:
        variants: Label of each variant -> the epochs of each of its runs; the one without a change before the one with it.
        key: The metric.
        title: Title of the figure.
        table: What stands under it.

    Raises:
        ValueError: There are not one or two variants, a variant has no run, or a run has no epochs.
    """
    if not 1 <= len(variants) <= 2:
        raise ValueError(f"one or two variants, got {len(variants)}")
    styles: list[tuple[str, Any]] = [(WITHOUT, DASHES), (WITH, "-")]
    if len(variants) == 1:
        styles = [(VALIDATION, "-")]
    curves = [_Curve(label, seeds, key, *style) for (label, seeds), style in zip(variants.items(), styles, strict=True)]
    return _plot(curves, title, LABELS[key], table)


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
        published: Any = {"fmt": "D", "color": PUBLISHED, "markersize": 4.5, "markerfacecolor": "white", "linewidth": 1.0, "capsize": 2.5}
        ours: Any = {"fmt": "o", "color": WITH, "markersize": 6.5, "linewidth": 1.8, "capsize": 4.0}
        for y, item in enumerate(differences):
            if item.mean is not None:
                low, high = (item.mean if end is None else end for end in (item.low, item.high))
                axes.errorbar(item.mean, y - 0.06, xerr=[[item.mean - low], [high - item.mean]], zorder=3, **ours)
                axes.plot(item.per_seed, [y - 0.3] * len(item.per_seed), "|", color=WITH, markersize=8, markeredgewidth=1.6)
            if item.published:
                mean, low, high = item.published
                axes.errorbar(mean, y + 0.22, xerr=[[mean - low], [high - mean]], zorder=2, **published)
        axes.errorbar([], [], xerr=[[], []], label="mean over seeds, 95% t interval", **ours)
        axes.plot([], [], "|", color=WITH, markersize=8, markeredgewidth=1.6, label="one seed")
        if any(item.published for item in differences):
            axes.errorbar([], [], xerr=[[], []], label="published: one run each, 95% interval", **published)
        axes.set_yticks(range(len(differences)), [item.label for item in differences])
        axes.set_ylim(len(differences) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("difference of last-epoch validation accuracy, points")
        figure.suptitle(title, x=0.02, ha="left", fontsize=11.0, fontweight="bold")
        figure.legend(loc="outside lower left", ncols=3, columnspacing=1.4, handlelength=2.6)
    return figure


def _plot(curves: Sequence[_Curve], title: str, ylabel: str, table: SummaryTable) -> Figure:
    if any(not len(curve.seeds) or not all(len(epochs) for epochs in curve.seeds) for curve in curves):
        raise ValueError("no epochs to plot")
    longest = max((_common_epochs(curve.seeds) for curve in curves), key=len)
    panels = [longest]
    if len(longest) >= WINDOW_EPOCHS:
        panels.append(longest[len(longest) // 2 :])
    with house_style():
        lines = wrap_title(title, WIDTH - 2 * MARGIN)
        heights = [MARGIN + TITLE_LINE * len(lines), *[PANEL_ABOVE + PANEL + PANEL_BELOW] * len(panels), LEGEND_LINE * len(curves)]
        heights.append(TABLE_LINE * (len(table.rows) + 1) if table.rows else 0.0)
        figure = blank_figure(WIDTH, sum(heights) + MARGIN)
        tops = np.cumsum([0.0, *heights])
        figure.text(MARGIN / WIDTH, 1 - MARGIN / _height(figure), "\n".join(lines), va="top", fontsize=11.0, fontweight="bold")
        for epochs, top in zip(panels, tops[1:], strict=False):
            axes = _add_axes(figure, top + PANEL_ABOVE, PANEL, LEFT, RIGHT)
            _draw_panel(axes, curves, epochs, ylabel)
            if len(panels) > 1:
                name = "all epochs" if len(epochs) == len(longest) else f"epochs {epochs[0]:.0f} to {epochs[-1]:.0f}"
                axes.set_title(name, fontsize=9.5, fontweight="normal", pad=5.0)
        below = _add_axes(figure, tops[-3], heights[-2], MARGIN, MARGIN)
        below.axis("off")
        handles = figure.axes[0].get_legend_handles_labels()
        below.legend(*handles, loc="upper left", borderaxespad=0.0, borderpad=0.0, handlelength=2.6, labelspacing=0.35)
        if table.rows:
            _draw_table(_add_axes(figure, tops[-2], heights[-1], MARGIN, RIGHT), table)
    return figure


def wrap_title(title: str, width: float) -> list[str]:
    """Return the lines of a title that is no wider than `width` inches; a word that alone is wider stays whole."""
    lines: list[str] = []
    for word in title.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, 11.0, weight="bold") <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _height(figure: Figure) -> float:
    return float(figure.get_size_inches()[1])


def _add_axes(figure: Figure, top: float, height: float, left: float, right: float) -> Axes:
    """Add axes at a distance from the figure's upper edge, in inches."""
    whole = _height(figure)
    return figure.add_axes((left / WIDTH, 1 - (top + height) / whole, (WIDTH - left - right) / WIDTH, height / whole))


def _draw_panel(axes: Axes, curves: Sequence[_Curve], epochs: NDArray[np.float64], ylabel: str) -> None:
    for curve in curves:
        _band(axes, curve, first=int(epochs[0]))
    finish_axes(axes, epochs, "", ylabel)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))


def _draw_table(axes: Axes, table: SummaryTable) -> None:
    """Draw the headings and rows: names to the left, values to the right of their columns."""
    axes.axis("off")
    axes.set_xlim(0, WIDTH - MARGIN - RIGHT)
    axes.set_ylim(len(table.rows) + 1, 0)
    rows = [TableRow("", table.headings), *table.rows]
    columns = [
        [text_width(value, 9.0, weight="normal" if y else "bold") for y, value in enumerate(values)]
        for values in zip(*(row.values for row in rows), strict=True)
    ]
    widths = [max(column) + COLUMN_GAP for column in columns]
    ends = WIDTH - MARGIN - RIGHT - np.cumsum([0.0, *widths[:0:-1]])[::-1]
    for y, row in enumerate(rows):
        style: Any = {"fontsize": 9.0, "va": "center", "color": PUBLISHED if row.is_published else None}
        axes.text(0, y + 0.5, row.name, **style)
        for x, value in zip(ends, row.values, strict=True):
            axes.text(x, y + 0.5, value, ha="right", fontweight="normal" if y else "bold", **style)
    axes.plot([0, WIDTH], [1, 1], color=GREY, linewidth=0.6)


def _band(axes: Axes, curve: _Curve, first: int) -> None:
    """Draw mean and band of a curve from the epoch `first` on."""
    x = _common_epochs(curve.seeds)
    is_shown, marker = x >= first, "o" if len(x) <= MARKED_EPOCHS else None
    values: NDArray[np.float64] = np.stack([column(epochs[: len(x)], curve.key) for epochs in curve.seeds])[:, is_shown]
    mean, x = values.mean(axis=0), x[is_shown]
    count = f"{len(curve.seeds)} seed" + "s" * (len(curve.seeds) > 1)
    label = f"{curve.label} ({count})"
    axes.plot(x, mean, color=curve.color, linestyle=curve.linestyle, marker=marker, markersize=3.5, label=label)
    if len(curve.seeds) > 1:
        std, most = values.std(axis=0, ddof=1), 1.0 if curve.key == "val_top1" else np.inf
        axes.fill_between(x, np.maximum(mean - std, 0), np.minimum(mean + std, most), color=curve.color, alpha=0.18, linewidth=0)


def _common_epochs(seeds: Sequence[EpochSequence]) -> NDArray[np.float64]:
    """Return the numbers of the epochs that all runs have."""
    return column(min(seeds, key=len), "epoch")
