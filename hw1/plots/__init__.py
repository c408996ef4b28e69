"""Plot data with matplotlib. No torch, no pyplot; only `save_figure` touches the disk."""

from hw1.plots.ablation import Difference, SummaryTable, TableRow, plot_differences, plot_seeds, plot_training_curve
from hw1.plots.attention import AttentionRow, overlay, plot_attention
from hw1.plots.calibration import plot_reliability
from hw1.plots.confusion import plot_confusion
from hw1.plots.curves import plot_curves
from hw1.plots.image_grid import plot_samples
from hw1.plots.style import Figure, render_figure, save_figure

__all__ = [
    "AttentionRow",
    "Difference",
    "Figure",
    "SummaryTable",
    "TableRow",
    "overlay",
    "plot_attention",
    "plot_confusion",
    "plot_curves",
    "plot_differences",
    "plot_reliability",
    "plot_samples",
    "plot_seeds",
    "plot_training_curve",
    "render_figure",
    "save_figure",
]
