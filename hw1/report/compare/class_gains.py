"""What each variant changes in the recall of every class, against the baseline, over the seeds that both have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.html.table import Column, Table
from hw1.report.compare.baseline import Comparisons
from hw1.report.pair_results import PairResult
from hw1.report.points import format_points
from hw1.report.run_record import RunRecord

MAX_SHOWN = 8
"""Variants with a column on the page; the CSV file has all."""
NUM_NAMED = 3


def class_table(comparisons: Comparisons) -> Table:
    """Tabulate recall of the baseline and the change by each comparable variant, in points, a row for each class."""
    compared = [result for result in comparisons.results if result.verdict]
    columns: list[Column] = []
    rows: list[dict[str, Any]] = []
    if compared and comparisons.baseline:
        first = compared[0].matched.without[0]
        support = np.bincount(first.labels, minlength=len(first.class_names))
        base = _recall(compared[0].matched.without, support)
        gains = {result.pair.with_: class_gains(result) for result in compared}
        rows = [
            {"class": name, "num_images": int(support[c]), "recall": float(base[c])}
            | {f"change_{variant}": 100 * float(values[c]) for variant, values in gains.items()}
            for c, name in enumerate(first.class_names)
            if support[c]
        ]
        columns = [Column("class", "class"), Column("num_images", "images", 0), Column("recall", f"recall, {comparisons.baseline.name}", 3)]
        columns += [Column(f"change_{variant}", variant, 1, signed=True) for variant in list(gains)[:MAX_SHOWN]]
    note = (
        "Difference of recall in points, mean over the common seeds. A class of 10 images moves in steps of 10 points, so that among many "
        "classes large changes are there by chance: nothing here is tested."
    )
    if len(compared) > MAX_SHOWN:
        note += f" The first {MAX_SHOWN} of {len(compared)} variants; the CSV file has all."
    return Table("classes", "Recall of each class", columns, rows, (), (), note)


def class_gains(result: PairResult) -> NDArray[np.float64]:
    """Return the change of recall of each class (-1 to 1), mean over seeds, [C]; NaN for a class without images."""
    first = result.matched.without[0]
    support = np.bincount(first.labels, minlength=len(first.class_names))
    return _recall(result.matched.with_, support) - _recall(result.matched.without, support)


def class_sentence(result: PairResult) -> str:
    """Say which classes win and lose most."""
    gains = class_gains(result)
    names = result.matched.without[0].class_names
    order = [int(c) for c in np.argsort(gains, kind="stable") if np.isfinite(gains[c])]  # NaN is last
    gaining = [c for c in order[::-1] if gains[c] > 0]
    losing = [c for c in order if gains[c] < 0]
    parts = [
        f"{word} most: {', '.join(f'{names[c]} {format_points(gains[c])[0]}' for c in classes[:NUM_NAMED])}"
        for word, classes in (("gain", gaining), ("lose", losing))
        if classes
    ]
    same = sum(not gains[c] for c in order)
    return f"{len(gaining)} classes gain, {len(losing)} lose, {same} stay; {'; '.join(parts) or 'no difference'}."


def _recall(runs: Sequence[RunRecord], support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the recall of each class, mean over runs, [C]."""
    correct = sum(np.bincount(run.labels, weights=run.correct, minlength=len(support)) for run in runs)
    with np.errstate(invalid="ignore"):
        return np.asarray(correct / len(runs) / support, dtype=np.float64)
