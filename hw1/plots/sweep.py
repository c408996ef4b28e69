"""Plot of a sweep: the score of each trial in order, and over the values of each key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hw1.plots.style import BLUE, GREY, ORANGE, Figure, house_style, new_figure

PANELS_IN_ROW = 3


@dataclass(frozen=True)
class TrialPoint:
    """A trial that has a score.

    Attributes:
        number: From 1.
        score: Of the best epoch.
        is_pruned: Whether it was stopped early.
        values: By key, numbers or texts.
    """

    number: int
    score: float
    is_pruned: bool
    values: Mapping[str, Any]


def plot_sweep(trials: Sequence[TrialPoint], metric: str, *, minimize: bool, log_keys: Sequence[str] = ()) -> Figure:
    """Plot scores by trial with the best so far, then one panel for each key with the scores over its values.

    Args:
        trials: In order, at least one.
        metric: Name of the score, for the axes.
        minimize: Whether a lower score is better.
        log_keys: Keys whose axis is logarithmic.

    Raises:
        ValueError: There is no trial.
    """
    if not trials:
        raise ValueError("no trials to plot")
    keys = list(trials[0].values)
    num_rows = -(-(len(keys) + 1) // PANELS_IN_ROW)
    num_columns = -(-(len(keys) + 1) // num_rows)
    with house_style():
        figure = new_figure(4.0 * num_columns, 0.6 + 3.0 * num_rows)
        panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flat
        first = next(panels)
        _points(first, trials, [trial.number for trial in trials])
        whole = [trial for trial in trials if not trial.is_pruned]
        best = (np.minimum if minimize else np.maximum).accumulate([trial.score for trial in whole])
        first.step([trial.number for trial in whole], best, where="post", color=ORANGE, linewidth=1.4, label="best so far", zorder=1)
        first.set_xlabel("trial")
        first.xaxis.set_major_locator(MaxNLocator(integer=True))
        for key in keys:
            _draw_key(next(panels), trials, key, is_log=key in log_keys)
        for panel in panels:
            panel.set_axis_off()
        for row in range(num_rows):
            figure.axes[row * num_columns].set_ylabel(metric)
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _draw_key(axes: Axes, trials: Sequence[TrialPoint], key: str, *, is_log: bool) -> None:
    values = [trial.values[key] for trial in trials]
    if any(not isinstance(value, int | float) for value in values):
        names = list(dict.fromkeys(map(str, values)))
        _points(axes, trials, [names.index(str(value)) for value in values])
        axes.set_xticks(range(len(names)), [name if len(name) < 16 else f"{name[:14]}…" for name in names], rotation=20, ha="right")
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        _points(axes, trials, values)
        if is_log:
            axes.set_xscale("log")
    axes.set_xlabel(key)


def _points(axes: Axes, trials: Sequence[TrialPoint], x: Sequence[float]) -> None:
    style: dict[str, Any] = {"markersize": 5.5, "linestyle": "none", "zorder": 2}
    for is_pruned, color, face, label in ((False, BLUE, BLUE, "trained to the end"), (True, GREY, "white", "stopped early")):
        chosen = [(place, trial.score) for place, trial in zip(x, trials, strict=True) if trial.is_pruned == is_pruned]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "o", color=color, markerfacecolor=face, label=label, **style)
