"""How far the confidences of a variant can be trusted, and what each change does to that: one row a variant, one row a pair."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hw1.ablate.variants import VARIANTS
from hw1.evaluation.calibration import BINNING, Calibration
from hw1.evaluation.significance import paired_t
from hw1.html.table import Column, Table
from hw1.report.collect import Collection, Measures, RunRecord, measured
from hw1.report.pairing import other_material
from hw1.report.verdict import PairResult

NOTE = (
    f"Calibration of the last epoch's validation: {BINNING} (Guo et al. 2017; Nixon et al. 2019). Scaled: with a temperature fitted on one "
    "random half of the images and measured on the other. An ECE is above 0 by chance too: a perfectly calibrated model would show the "
    "ECE by chance on average. ± is the standard deviation over seeds."
)


def _of(value: Callable[[Calibration], float]) -> Callable[[RunRecord], float]:
    return lambda run: np.nan if run.calibration is None else value(run.calibration)


def _after(key: str) -> Callable[[RunRecord], float]:
    return _of(lambda found: np.nan if found.after is None else found.after[key])


MEASURES: Measures = {
    "confidence": _of(lambda found: found.before["confidence"]),
    "accuracy": _of(lambda found: found.before["accuracy"]),
    "ece": _of(lambda found: found.before["ece"]),
    "ece_chance": _of(lambda found: found.chance[0]),
    "adaptive_ece": _of(lambda found: found.before["adaptive_ece"]),
    "brier": _of(lambda found: found.before["brier"]),
    "nll": _of(lambda found: found.before["nll"]),
    "temperature": _of(lambda found: np.nan if found.temperature is None else found.temperature),
    "ece_scaled": _after("ece"),
    "nll_scaled": _after("nll"),
}
TITLES = {
    "confidence": "mean confidence", "accuracy": "accuracy", "ece": "ECE", "ece_chance": "ECE by chance", "adaptive_ece": "adaptive ECE",
    "brier": "Brier", "nll": "NLL, nats", "temperature": "temperature", "ece_scaled": "ECE, scaled", "nll_scaled": "NLL, scaled",
}  # fmt: skip


def calibration_table(collection: Collection) -> Table:
    """One row for each variant with a finished run."""
    runs = [run for run in collection.runs if run.calibration]
    names = dict.fromkeys([*(name for name in VARIANTS if collection.of(name)), *(run.variant for run in runs)])
    sides = {name: [run for run in runs if run.variant == name] for name in names}
    rows = [
        {"variant": name, **measured(side, MEASURES), "runs": " ".join(run.path for run in side)} for name, side in sides.items() if side
    ]
    columns = [
        Column("variant", "variant"),
        Column("num_seeds", "seeds", 0),
        *(Column(key, title, 4, spread="" if key == "ece_chance" else f"{key}_std") for key, title in TITLES.items()),
    ]
    return Table("calibration", "Calibration", columns, rows, [run.path for run in runs], other_material(runs), NOTE)


def calibration_pair_table(results: Sequence[PairResult]) -> Table:
    """One row for each pair that may be compared: ECE with minus without, same seeds, as trained and with temperatures."""
    rows, paths = [], []
    for result in results:
        runs = result.matched.runs
        if result.verdict and all(run.calibration for run in runs):
            rows.append(_pair_row(result))
            paths += [run.path for run in runs]
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
        "With minus without, same seeds; below 0 the change makes confidences more trustworthy. A gap above 0: surer than right. Intervals "
        "are not adjusted for the number of pairs."
    )
    return Table("calibration_pairs", "What each change does to calibration", columns, rows, list(dict.fromkeys(paths)), (), note)


def _pair_row(result: PairResult) -> dict[str, Any]:
    without, with_ = ({name: [measure(run) for run in side] for name, measure in MEASURES.items()} for side in _sides(result))
    row: dict[str, Any] = {"pair": result.pair.name, "title": result.title, "num_seeds": len(result.matched.seeds)}
    for key in ("ece", "ece_scaled"):
        found = paired_t(np.subtract(with_[key], without[key]))
        row |= {f"{key}_without": float(np.mean(without[key])), f"{key}_with": float(np.mean(with_[key]))}
        row |= {f"{key}_difference": found.mean, f"{key}_low": found.low, f"{key}_high": found.high}
    for name, side in (("without", without), ("with", with_)):
        row[f"gap_{name}"] = float(np.mean(np.subtract(side["confidence"], side["accuracy"])))
        row[f"temperature_{name}"] = float(np.mean(side["temperature"]))
    return row


def _sides(result: PairResult) -> tuple[Sequence[RunRecord], Sequence[RunRecord]]:
    return result.matched.without, result.matched.with_
