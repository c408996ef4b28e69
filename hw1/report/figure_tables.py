"""The table under each figure of training: last epoch, best epoch and minutes, the published values beside them. No torch."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from hw1.ablate.variants import Published
from hw1.plots import SummaryTable, TableRow
from hw1.plots.curves import column
from hw1.report.run_record import RunRecord
from hw1.report.seed_summary import summarize_seeds

HEADINGS = ("last epoch", "best", "minutes")
NOTHING = "–"

Metric = Literal["val_top1", "val_loss", "train_loss"]


class Side(NamedTuple):
    """A variant in a figure.

    Attributes:
        name: `without` or `with`; empty if the figure shows one variant.
        variant: Its name.
        runs: Its finished runs.
        published: The published run that the report's figure shows.
    """

    name: str
    variant: str
    runs: Sequence[RunRecord]
    published: Published | None


def training_summary(side: Side) -> SummaryTable:
    """Return the losses of the runs of a variant, and the published one."""
    minutes = _mean(side.runs, lambda run: run.minutes, 1)
    rows = [
        TableRow("train loss", (*_last_and_best(side.runs, "train_loss"), "")),
        TableRow("validation loss", (*_last_and_best(side.runs, "val_loss"), minutes)),
    ]
    if side.published:
        rows.append(_published_row("published validation", side.published, "val_loss"))
    return SummaryTable(HEADINGS, rows)


def validation_summary(sides: Sequence[Side], key: Literal["val_top1", "val_loss"]) -> SummaryTable:
    """Return accuracy or loss of the runs of each variant, and the published ones."""
    rows = []
    for side in sides:
        minutes = _mean(side.runs, lambda run: run.minutes, 1)
        rows.append(TableRow(side.name or "validation", (*_last_and_best(side.runs, key), minutes)))
        if side.published:
            rows.append(_published_row(f"published {side.name}", side.published, key))
    return SummaryTable(HEADINGS, rows)


def _last_and_best(runs: Sequence[RunRecord], key: Metric) -> tuple[str, str]:
    """Format the last and the best value of a metric: the highest accuracy, the lowest loss, of each run."""

    def best(run: RunRecord) -> float:
        values = column(run.epochs, key)
        finite = values[values == values]
        return float(finite.max() if key == "val_top1" else finite.min()) if len(finite) else float("nan")

    return _mean(runs, lambda run: run.last[key], 4), _mean(runs, best, 4)


def _mean(runs: Sequence[RunRecord], metric: Callable[[RunRecord], float], digits: int) -> str:
    """Format mean and standard deviation over runs; without the latter for one run."""
    summary = summarize_seeds(runs, {"metric": metric})
    spread = summary["metric_std"]
    return f"{summary['metric']:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def _published_row(name: str, published: Published, key: Metric) -> TableRow:
    value = published.accuracy if key == "val_top1" else published.loss
    return TableRow(name, (f"{value:.4f}", NOTHING, f"{60 * published.hours:.0f}"), is_published=True)
