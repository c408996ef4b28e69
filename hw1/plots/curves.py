"""Plot the training curves of one run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hw1.plots.style import BLUE, GREEN, ORANGE, Figure, house_style, new_figure

MARKED_EPOCHS = 25  # up to here each epoch has room for a marker
DASHED_EPOCHS = 150  # beyond, noise between epochs would hide the dashes

Epoch = Mapping[str, Any]
"""The metrics of one epoch, by name."""


def plot_curves(
    rows: Sequence[Epoch],
    *,
    best_by: str = "top1",
    rates: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    mixes: bool = False,
    stopped_early: bool = False,
) -> Figure:
    """Plot loss, accuracy and learning rate over epochs, side by side; the best epoch is marked where its metric is shown.

    A value that is None, NaN or infinite leaves a gap.

    Args:
        rows: The metrics of each epoch, in order: epoch, train_loss, train_acc, val_loss, val_top1 and lr (losses in nats, accuracies
            0-1).
        best_by: What makes an epoch the best, see `train.best_by`.
        rates: Epochs, and the learning rate there, of every step; None draws the rate at the end of each epoch.
        mixes: Whether the training images are mixed (Mixup, CutMix), which the legends explain.
        stopped_early: Whether `train.early_stop` ended the run, which the title says.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("no epochs to plot")
    mixed_loss, mixed_accuracy = (" (mixed images: higher)", " (mixed images)") if mixes else ("", "")
    with house_style():
        figure = new_figure(13.5, 4.2)
        loss, accuracy, rate = figure.subplots(1, 3)
        epochs = column(rows, "epoch")
        train_dashes = (0, (4, 2)) if len(rows) <= DASHED_EPOCHS else "-"
        _draw(loss, epochs, column(rows, "train_loss"), ORANGE, f"train{mixed_loss}", linestyle=train_dashes)
        _draw(loss, epochs, column(rows, "val_loss"), BLUE, "validation")
        _draw(accuracy, epochs, column(rows, "train_acc"), ORANGE, f"train{mixed_accuracy}", linestyle=train_dashes)
        _draw(accuracy, epochs, column(rows, "val_top1"), BLUE, "validation")
        if best_by not in ("top1", "loss"):
            _draw(accuracy, epochs, column(rows, f"val_{best_by}"), GREEN, f"validation {best_by.replace('_', ' ')}")
        _mark_best(loss if best_by == "loss" else accuracy, rows, best_by)
        finish_axes(loss, epochs, "Loss", "cross-entropy (nats)")
        finish_axes(accuracy, epochs, "Accuracy", "top-1 accuracy" if best_by in ("top1", "loss") else "accuracy, F1")
        _draw_rate(rate, epochs, column(rows, "lr"), rates)
        scale_accuracy(accuracy)
        for axes in (loss, accuracy):
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2 if mixes else 3, columnspacing=1.4, handlelength=2.2)
        if stopped_early:
            figure.suptitle(f"Stopped early after epoch {epochs[-1]:.0f} (train.early_stop)", x=0.01, ha="left", fontsize=10.0)
    return figure


def best_epoch(rows: Sequence[Epoch], best_by: str = "top1") -> int | None:
    """Return the position in `rows` of the best epoch; None if no epoch has a finite number to compare.

    The best epoch has the highest `val_<best_by>`, or the lowest val_loss; ties go to the lower val_loss, then to the earlier epoch.
    """
    sign = -1 if best_by == "loss" else 1
    scores = [(sign * _number(row[f"val_{best_by}"]), -_number(row["val_loss"]), -i) for i, row in enumerate(rows)]
    scores = [(score, loss if math.isfinite(loss) else -math.inf, i) for score, loss, i in scores if math.isfinite(score)]
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


def _mark_best(axes: Axes, rows: Sequence[Epoch], best_by: str) -> None:
    best = best_epoch(rows, best_by)
    if best is None:
        return
    epoch, value = _number(rows[best]["epoch"]), _number(rows[best][f"val_{best_by}"])
    label, color = f"best: {value:.4f} at epoch {epoch:.0f}", BLUE if best_by in ("top1", "loss") else GREEN
    axes.plot([epoch], [value], marker="*", markersize=14, color=color, markeredgecolor="white", linestyle="none", label=label, zorder=5)


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


def _draw_rate(
    axes: Axes, epochs: NDArray[np.float64], rates: NDArray[np.float64], steps: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> None:
    """Draw the rate of every step, or where that is not known of every epoch."""
    if steps is None:
        _draw(axes, epochs, rates, GREEN, "learning rate", drawstyle="steps-mid")
    else:
        axes.plot(*steps, color=GREEN, label="learning rate", linewidth=1.8)
    finish_axes(axes, epochs, "Learning rate", f"rate {'at the end of each epoch' if steps is None else 'of each step'}")
    axes.set_xlim(0 if steps else axes.get_xlim()[0], axes.get_xlim()[1])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
