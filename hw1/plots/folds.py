"""Plot of a cross-validation: the accuracy of each fold beside that of all images."""

from collections.abc import Sequence
from dataclasses import dataclass

from hw1.plots.style import BLUE, GREY, ORANGE, Figure, house_style, new_figure


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with its 95% interval, all 0-1, and its number of images."""

    value: float
    low: float
    high: float
    num_images: int


def plot_folds(folds: Sequence[Accuracy], whole: Accuracy) -> Figure:
    """Plot a line for each fold, and the accuracy of all images with its interval as a band.

    Raises:
        ValueError: There is no fold.
    """
    if not folds:
        raise ValueError("no folds to plot")
    with house_style():
        figure = new_figure(7.0, 1.4 + 0.42 * len(folds))
        axes = figure.subplots()
        axes.axvline(whole.value, color=BLUE, label=f"all {whole.num_images:,} images: {whole.value:.4f}")
        axes.axvspan(whole.low, whole.high, color=BLUE, alpha=0.15, linewidth=0, label="its 95% interval")
        for row, fold in enumerate(folds):
            ends = [[fold.value - fold.low], [fold.high - fold.value]]
            label = "one fold, 95% interval" if not row else None
            axes.errorbar(fold.value, row, xerr=ends, fmt="o", color=ORANGE, ecolor=GREY, capsize=3.0, label=label, zorder=3)
        axes.set_yticks(range(len(folds)), [f"fold {row} ({fold.num_images:,})" for row, fold in enumerate(folds)])
        axes.set_ylim(len(folds) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("top-1 accuracy of images that the run never saw")
        figure.legend(loc="outside lower left", ncols=3)
    return figure
