"""Tables of calibration: one row per variant, and one row per pair."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hw1.ablate.variants import VARIANTS
from hw1.evaluation.calibration import BINNING, Calibration
from hw1.evaluation.significance import paired_t
from hw1.html.table import Column, Table
from hw1.report.pair_results import PairResult
from hw1.report.pairing import data_differences
from hw1.report.run_record import Collection, RunRecord
from hw1.report.run_tables import run_paths
from hw1.report.seed_summary import RunMetrics, summarize_seeds

NOTE = (
    f"Calibration of the last epoch's validation: {BINNING} (Guo et al. 2017; Nixon et al. 2019). Scaled: with a temperature fitted on one "
    "random half of the images and measured on the other. An ECE is above 0 by chance too: a perfectly calibrated model would show the "
    "ECE by chance on average. ± is the standard deviation over seeds."
)

SKIPPED_NOTE = " Of so many runs neither the ECE by chance nor a temperature was computed: name fewer for these."


def _metric(value: Callable[[Calibration], float]) -> Callable[[RunRecord], float]:
    """Make a metric of a run from one of its calibration; NaN if the run has none."""
    return lambda run: np.nan if run.calibration is None else value(run.calibration)


def _before(key: str) -> Callable[[RunRecord], float]:
    return _metric(lambda calibration: calibration.before[key])


def _after(key: str) -> Callable[[RunRecord], float]:
    return _metric(lambda calibration: np.nan if calibration.after is None else calibration.after[key])


METRICS: RunMetrics = {
    "confidence": _before("confidence"),
    "accuracy": _before("accuracy"),
    "ece": _before("ece"),
    "ece_chance": _metric(lambda calibration: calibration.chance[0]),
    "adaptive_ece": _before("adaptive_ece"),
    "brier": _before("brier"),
    "nll": _before("nll"),
    "temperature": _metric(lambda calibration: np.nan if calibration.temperature is None else calibration.temperature),
    "ece_scaled": _after("ece"),
    "nll_scaled": _after("nll"),
}
TITLES = {
    "confidence": "mean confidence", "accuracy": "accuracy", "ece": "ECE", "ece_chance": "ECE by chance", "adaptive_ece": "adaptive ECE",
    "brier": "Brier", "nll": "NLL, nats", "temperature": "temperature", "ece_scaled": "ECE, scaled", "nll_scaled": "NLL, scaled",
}  # fmt: skip


def calibration_table(collection: Collection) -> Table:
    """Tabulate the calibration of each variant with a finished run."""
    runs = [run for run in collection.runs if run.calibration]
    names = dict.fromkeys([*VARIANTS, *(run.variant for run in runs)])
    runs_of = {name: [run for run in runs if run.variant == name] for name in names}
    rows = [
        {"variant": name, **summarize_seeds(of_variant, METRICS), "runs": " ".join(run_paths(of_variant))}
        for name, of_variant in runs_of.items()
        if of_variant
    ]
    columns = [
        Column("variant", "variant"),
        Column("num_seeds", "seeds", 0),
        *(Column(key, title, 4, spread="" if key == "ece_chance" else f"{key}_std") for key, title in TITLES.items()),
    ]
    skipped = "" if not runs or any(math.isfinite(run.calibration.chance[0]) for run in runs if run.calibration) else SKIPPED_NOTE
    return Table("calibration", "Calibration", columns, rows, run_paths(runs), data_differences(runs), NOTE + skipped)


def calibration_pair_table(results: Sequence[PairResult]) -> Table:
    """Tabulate the differences of each pair that may be compared: with minus without, same seeds, as trained and with temperatures."""
    rows, compared = [], []
    for result in results:
        runs = result.matched.runs
        if result.verdict and all(run.calibration for run in runs):
            rows.append(_pair_row(result))
            compared += runs
    columns = (
        Column("title", "pair"),
        Column("num_seeds", "seeds", 0),
        Column("ece_without", "ECE without", 4),
        Column("ece_with", "ECE with", 4),
        Column("ece_difference", "difference", 4, signed=True),
        Column("ece_low", "95% t interval over seeds", 4, upper="ece_high", signed=True),
        Column("gap_without", "confidence − accuracy without", 4, signed=True),
        Column("gap_with", "with", 4, signed=True),
        Column("temperature_without", "temperature without", 2),
        Column("temperature_with", "with", 2),
        Column("ece_scaled_difference", "difference of scaled ECE", 4, signed=True),
        Column("ece_scaled_low", "95% t interval over seeds", 4, upper="ece_scaled_high", signed=True),
    )
    note = (
        "With minus without, same seeds; below 0 the change improves calibration. A gap above 0: overconfident. Intervals take the "
        "differences of the seeds as independent and normal, and are not adjusted for the number of pairs."
    )
    return Table("calibration_pairs", "What each change does to calibration", columns, rows, run_paths(compared), (), note)


def _pair_row(result: PairResult) -> dict[str, Any]:
    without, with_ = (
        {name: [metric(run) for run in runs] for name, metric in METRICS.items()} for runs in (result.matched.without, result.matched.with_)
    )
    row: dict[str, Any] = {"pair": result.pair.name, "title": result.title, "num_seeds": len(result.matched.seeds)}
    for key in ("ece", "ece_scaled"):
        interval = paired_t(np.subtract(with_[key], without[key]), limit=1.0)
        row |= {f"{key}_without": float(np.mean(without[key])), f"{key}_with": float(np.mean(with_[key]))}
        row |= {f"{key}_difference": interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}
    for name, side in (("without", without), ("with", with_)):
        row[f"gap_{name}"] = float(np.mean(np.subtract(side["confidence"], side["accuracy"])))
        row[f"temperature_{name}"] = float(np.mean(side["temperature"]))
    return row
