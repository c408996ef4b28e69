"""Work out docs/ablation again from its own CSV files: python -m benchmarks.accuracy.ablation_tables.

The run folders behind that report are gone. What its CSV files hold of each seed is enough for the verdicts, and the published numbers
need no run. Writes verdicts.csv, published.csv, differences.png and those two tables in tables.md. The bootstrap intervals over images
need the predictions, and stay as they were.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw1.ablate.variants import PAIRS, Pair
from hw1.config.load import load_recipe
from hw1.evaluation.significance import Interval, McNemar
from hw1.html.table import Table, to_csv, to_markdown
from hw1.report.figures import draw_differences
from hw1.report.pair_results import PairResult, published_of
from hw1.report.pair_tables import published_table, verdict_table
from hw1.report.pairing import PairRuns
from hw1.report.run_record import RunRecord
from hw1.report.verdict import Comparison, summarize_tests, verdicts
from hw1.utils.files import replace_files
from hw1.utils.text import to_bytes

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "ablation"


def read_results(folder: Path) -> list[PairResult]:
    """Return the result of every pair that the CSV files of a report hold."""
    seeds, verdict_rows = (_rows(folder / f"{name}.csv") for name in ("seeds", "verdicts"))
    over_images = {row["pair"]: _interval(row) for row in verdict_rows}
    pairs = [pair for pair in PAIRS if pair.name in over_images]
    rows_of = {pair.name: [row for row in seeds if row["pair"] == pair.name] for pair in pairs}
    comparisons = [_comparison(rows_of[pair.name], over_images[pair.name]) for pair in pairs]
    return [
        PairResult(pair, _pair_runs(pair, rows_of[pair.name]), verdict, published_of(pair))
        for pair, verdict in zip(pairs, verdicts(comparisons), strict=True)
    ]


def rebuild(folder: Path) -> dict[str, bytes]:
    """Return the files of a report that its CSV files determine, by name."""
    results = read_results(folder)
    tables = [verdict_table(results), published_table(results)]
    text = (folder / "tables.md").read_text()
    for table in tables:
        text = _replace_section(text, table)
    files = {f"{table.name}.csv": to_bytes(to_csv(table)) for table in tables}
    return files | {"tables.md": text.encode(), "differences.png": draw_differences(results).png}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _interval(row: dict[str, str]) -> Interval:
    low, high = (float(row[name]) / 100 if row[name] else None for name in ("images_low", "images_high"))
    return Interval(float(row["difference_points"]) / 100, low, high)


def _comparison(rows: Sequence[dict[str, str]], over_images: Interval) -> Comparison:
    tests = [McNemar(int(row["only_without"]), int(row["only_with"]), float(row["p_mcnemar"])) for row in rows]
    return summarize_tests(int(rows[0]["num_images"]), tests, over_images)


def _pair_runs(pair: Pair, rows: Sequence[dict[str, str]]) -> PairRuns:
    without, with_ = ([_record(name, int(row["seed"])) for row in rows] for name in (pair.without, pair.with_))
    return PairRuns(pair, without, with_, obstacles=[], notices=[])


def _record(variant: str, seed: int) -> RunRecord:
    """Return the record of a run of which only the path and the recipe are known."""
    nothing = np.empty(0, dtype=np.int32)
    path = f"{variant}/seed{seed}"
    return RunRecord(
        folder=FOLDER / path,
        path=path,
        variant=variant,
        seed=seed,
        recipe=load_recipe(FOLDER.parents[1] / f"recipes/ablations/{variant}.yaml"),
        config="",
        env={"fingerprint": ""},  # all are of the same data
        epochs=[],
        files=(),
        labels=nothing.astype(np.int64),
        correct=nothing.astype(bool),
        predicted=nothing,
        confidence=nothing.astype(np.float32),
        class_names=(),
        calibration=None,
        evaluations=(),
    )


def _replace_section(text: str, table: Table) -> str:
    pattern = rf"^### {re.escape(table.title)}\n.*?(?=^### |\Z)"
    return re.sub(pattern, lambda _: to_markdown(table) + "\n", text, count=1, flags=re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    replace_files(FOLDER, rebuild(FOLDER), [])
