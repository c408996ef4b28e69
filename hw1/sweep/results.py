"""What a sweep leaves beside its runs: a table of the trials, on the console and as CSV, and their picture."""

import csv
import io
import math

from hw1.plots.style import save_figure
from hw1.plots.sweep import TrialPoint, plot_sweep
from hw1.sweep.plan import SweepPlan
from hw1.sweep.space import Choice, format_value
from hw1.sweep.study import Trial
from hw1.utils.files import write_atomic
from hw1.utils.text import csv_cell, to_bytes

SHOWN = 20
"""Trials in the table on the console; the CSV has all."""


def ranked(trials: list[Trial], *, minimize: bool) -> list[Trial]:
    """Return the finished trials, the best first, then the pruned ones and the failed ones; of equals the earlier one first."""
    order = {"finished": 0, "pruned": 1, "failed": 2, "running": 3}
    sign = 1 if minimize else -1
    return sorted(trials, key=lambda t: (order[t.state], math.inf if t.score is None else sign * t.score, t.number))


def write_results(plan: SweepPlan, trials: list[Trial]) -> None:
    """Write `trials.csv` and, where a trial has a score, `trials.png`.

    Raises:
        RunError: A file cannot be written.
    """
    rows = ranked(trials, minimize=plan.best_by == "loss")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", f"val_{plan.best_by}", "best_epoch", "epochs", *plan.space])
    for trial in rows:
        numbers = [trial.number, trial.state, trial.score, trial.best_epoch, max(trial.scores, default=0)]
        writer.writerow(map(csv_cell, [*numbers, *(_plain(value) for value in trial.values.values())]))
    write_atomic(plan.folder / "trials.csv", to_bytes(text.getvalue()))
    points = [
        TrialPoint(trial.number, trial.score, trial.state == "pruned", {key: _plain(value) for key, value in trial.values.items()})
        for trial in trials
        if trial.score is not None and trial.state in ("finished", "pruned")
    ]
    if points:
        log_keys = [key for key, values in plan.space.items() if not isinstance(values, Choice) and values.log]
        figure = plot_sweep(points, f"validation {plan.best_by}", minimize=plan.best_by == "loss", log_keys=log_keys)
        save_figure(figure, plan.folder / "trials.png")


def format_table(plan: SweepPlan, trials: list[Trial]) -> str:
    """Return the table for the console, the best trials first."""
    rows = [["trial", "state", f"val {plan.best_by}", "epoch", *plan.space]]
    for trial in ranked(trials, minimize=plan.best_by == "loss")[:SHOWN]:
        score = "" if trial.score is None else f"{trial.score:.4f}"
        epoch = "" if trial.best_epoch is None else f"{trial.best_epoch} of {max(trial.scores)}"
        rows.append([str(trial.number), trial.state, score, epoch, *map(format_value, trial.values.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(trials) - SHOWN
    return "\n".join([*lines, *([f"{more} more in {plan.folder / 'trials.csv'}"] if more > 0 else [])])


def _plain(value: object) -> object:
    """Return numbers as they are, all else as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else format_value(value)
