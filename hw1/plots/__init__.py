"""Data to matplotlib figures. No torch, no pyplot; only `save_figure` touches the disk."""

from hw1.plots.curves import plot_curves
from hw1.plots.figure import save_figure
from hw1.plots.samples import plot_samples

__all__ = ["plot_curves", "plot_samples", "save_figure"]
