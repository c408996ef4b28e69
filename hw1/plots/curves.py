"""Plot the training curves of one run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hw1.plots.style import BLUE, GREEN, ORANGE, house_style, new_figure

MARKED_EPOCHS = 25  # up to here each epoch has room for a marker
DASHED_EPOCHS = 150  # beyond, noise between epochs would hide the dashes

Epoch = Mapping[str, Any]
"""The metrics of one epoch, by name."""


def plot_curves(rows: Sequence[Epoch]) -> Figure:
    """Plot loss, accuracy (best epoch marked) and learning rate over epochs, side by side.

    A value that is None, NaN or infinite leaves a gap.

    Args:
        rows: The metrics of each epoch, in order: epoch, train_loss, train_acc, val_loss, val_top1 and lr (losses in nats, accuracies
            0-1).

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("no epochs to plot")
    with house_style():
        figure = new_figure(13.5, 4.2)
        loss, accuracy, rate = figure.subplots(1, 3)
        epochs = column(rows, "epoch")
        train_dashes = (0, (4, 2)) if len(rows) <= DASHED_EPOCHS else "-"
        _draw(loss, epochs, column(rows, "train_loss"), ORANGE, "train", linestyle=train_dashes)
        _draw(loss, epochs, column(rows, "val_loss"), BLUE, "validation")
        _draw(accuracy, epochs, column(rows, "train_acc"), ORANGE, "train", linestyle=train_dashes)
        _draw(accuracy, epochs, column(rows, "val_top1"), BLUE, "validation")
        _draw(rate, epochs, column(rows, "lr"), GREEN, "learning rate", drawstyle="steps-mid")
        _mark_best(accuracy, rows)
        finish_axes(loss, epochs, "Loss", "cross-entropy (nats)")
        finish_axes(accuracy, epochs, "Accuracy", "top-1 accuracy")
        finish_axes(rate, epochs, "Learning rate", "rate")
        scale_accuracy(accuracy)
        _scale_rate(rate, column(rows, "lr"))
        for axes in (loss, accuracy):
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, columnspacing=1.4, handlelength=2.2)
    return figure


def best_epoch(rows: Sequence[Epoch]) -> int | None:
    """Return the position in `rows` of the best epoch; None if no validation accuracy is finite.

    The best epoch has the highest val_top1; ties go to the lower val_loss, then to the earlier epoch.
    """
    scores = [(_number(row["val_top1"]), -_number(row["val_loss"]), -i) for i, row in enumerate(rows)]
    scores = [(top1, loss if math.isfinite(loss) else -math.inf, i) for top1, loss, i in scores if math.isfinite(top1)]
    return -max(scores)[2] if scores else None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def column(rows: Sequence[Epoch], key: str) -> NDArray[np.float64]:
    """Return one metric over the epochs, float64 [E]; NaN where it is None, NaN or infinite."""
    values = np.array([_number(row[key]) for row in rows], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _draw(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], color: str, label: str, **style: Any) -> None:
    axes.plot(
        x,
        y,
        color=color,
        label=label,
        marker="o" if len(x) <= MARKED_EPOCHS else None,
        markersize=4.5,
        linewidth=1.8 if len(x) <= DASHED_EPOCHS else 1.2,
        **style,
    )


def _mark_best(axes: Axes, rows: Sequence[Epoch]) -> None:
    best = best_epoch(rows)
    if best is None:
        return
    epoch, top1 = _number(rows[best]["epoch"]), _number(rows[best]["val_top1"])
    label = f"best: {top1:.4f} at epoch {epoch:.0f}"
    axes.plot([epoch], [top1], marker="*", markersize=14, color=BLUE, markeredgecolor="white", linestyle="none", label=label, zorder=5)


def finish_axes(axes: Axes, epochs: NDArray[np.float64], title: str, ylabel: str) -> None:
    """Set title and labels, and an x-axis of whole epochs with a margin on both sides."""
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.set_xlim(epochs[0] - 0.9, epochs[-1] + max(0.03 * (epochs[-1] - epochs[0]), 0.9))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def scale_accuracy(axes: Axes) -> None:
    """Limit the y-axis to 0-1 and a small margin."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(-0.02, low), min(1.02, high))


def _scale_rate(axes: Axes, rates: NDArray[np.float64]) -> None:
    positive = rates[rates > 0]
    if not len(positive):  # a logarithmic axis could show nothing
        return
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    if high == low:
        low, high = low - 1, high + 1
    axes.set_ylabel("rate (log scale)")
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(10**low * 0.8, 10**high * 1.25)
    axes.yaxis.set_major_locator(LogLocator(base=10))
    axes.yaxis.set_major_formatter(LogFormatterSciNotation(base=10))
    axes.yaxis.set_minor_formatter(NullFormatter())
