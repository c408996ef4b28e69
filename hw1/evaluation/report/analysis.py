"""Logits and labels to everything that the page, the tables and the images say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.errors import RunError
from hw1.evaluation.calibration import BINNING, Calibration, apply_temperature, calibrate, confidences, measure, scale
from hw1.evaluation.confusion import ConfusedPair, confused_pairs, sample_losses
from hw1.evaluation.metrics import class_averages, confusion_matrix, per_class, summarize
from hw1.evaluation.significance import proportion_interval
from hw1.html.table import Column, Table


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on N images of C classes. `names` has one a class, never empty; arrays are [N] but for `confusion` [C, C]."""

    names: Sequence[str]
    files: Sequence[str]
    labels: NDArray[np.int64]
    guesses: NDArray[np.int64]
    confidence: NDArray[np.float64]
    """Of the guess, with the temperature that was asked for."""
    losses: NDArray[np.float64]
    metrics: dict[str, Any]
    """What `metrics.json` holds."""
    confusion: NDArray[np.int64]
    pairs: list[ConfusedPair]
    calibration: Calibration
    """Of the logits as the model gives them, whatever temperature was asked for."""
    class_rows: list[dict[str, Any]]

    @property
    def worst(self) -> NDArray[np.int64]:
        """All images by falling loss."""
        return np.argsort(-self.losses, kind="stable")


def analyse(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    files: Sequence[str],
    names: Sequence[str],
    facts: dict[str, Any],
    *,
    temperature: float = 1.0,
    fitted: float | None = None,
    fits: bool = False,
) -> Analysis:
    """Measures everything once. `facts` stand first in the metrics; `temperature` divides the logits of all but the calibration.

    The calibration fits a temperature on these images where `fits`, else it tries the one `fitted` elsewhere, if any. Raises `RunError`
    for logits that are not finite.
    """
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        first = files[int(broken.argmax())]
        raise RunError(f"{first}: the model's answer is not a finite number, as for {broken.sum()} of {len(files)} images")
    scaled = scale(logits, temperature)
    shown = [name or str(label) for label, name in enumerate(names)]
    confusion = confusion_matrix(scaled, labels)
    return Analysis(
        names=shown,
        files=files,
        labels=labels,
        guesses=scaled.argmax(axis=1),
        confidence=confidences(scaled),
        losses=sample_losses(scaled, labels),
        metrics={**facts, "temperature": temperature, **_metrics(scaled, labels)},
        confusion=confusion,
        pairs=confused_pairs(confusion),
        calibration=calibrate(logits, labels) if fits else apply_temperature(logits, labels, fitted),
        class_rows=per_class(scaled, labels, shown),
    )


def _metrics(logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, Any]:
    metrics = summarize(logits, labels)
    total = int(metrics["num_images"])
    intervals = {f"{key}_interval": proportion_interval(round(metrics[key] * total), total) for key in ("top1", "top5")}
    trust = {key: value for key, value in measure(logits, labels).items() if key in ("brier", "ece", "adaptive_ece")}
    return {**metrics, **intervals, **class_averages(logits, labels), **trust}


def class_table(analysis: Analysis) -> Table:
    """Precision, recall and F1 of every class."""
    digits = {"precision": 3, "recall": 3, "f1": 3, "support": 0}
    columns = (Column("class", "class"), *(Column(key, key.replace("f1", "F1"), places) for key, places in digits.items()))
    return Table("per_class", "All classes", columns, analysis.class_rows)


def pair_table(analysis: Analysis) -> Table:
    """Every pair of classes of which one was taken for the other, most images first."""
    rows = [
        {
            "class": analysis.names[pair.label],
            "guess": analysis.names[pair.guess],
            "images": pair.images,
            "support": pair.support,
            "share": pair.images / pair.support,
            "reverse": int(analysis.confusion[pair.guess, pair.label]),
        }
        for pair in analysis.pairs
    ]
    columns = (
        Column("class", "class"),
        Column("guess", "taken for"),
        Column("images", "images", 0),
        Column("support", "of", 0),
        Column("share", "share", 2),
        Column("reverse", "the other way", 0),
    )
    return Table("confused", "Confused pairs", columns, rows)


def worst_table(analysis: Analysis) -> Table:
    """Every image, the largest loss first."""
    rows = [
        {
            "file": analysis.files[i],
            "class": analysis.names[analysis.labels[i]],
            "guess": analysis.names[analysis.guesses[i]],
            "confidence": float(analysis.confidence[i]),
            "loss": float(analysis.losses[i]),
        }
        for i in analysis.worst
    ]
    columns = (
        Column("file", "file"), Column("class", "class"), Column("guess", "guess"), Column("confidence", "confidence", 3),
        Column("loss", "loss", 3),
    )  # fmt: skip
    return Table("worst", "All images, the largest loss first", columns, rows)


def calibration_table(analysis: Analysis) -> Table:
    """The calibration before and after temperature scaling."""
    calibration = analysis.calibration
    measures = [
        ("as trained", calibration.before),
        (f"with temperature, {'cross-fitted' if calibration.cross_fitted else 'fitted on validation'}", calibration.after),
        ("with temperature, on the images it was fitted on", calibration.in_sample),
    ]
    rows = [{"logits": name, **values} for name, values in measures if values]
    columns = (
        Column("logits", "logits"),
        Column("ece", "ECE", 4),
        Column("adaptive_ece", "adaptive ECE", 4),
        Column("brier", "Brier", 4),
        Column("nll", "NLL, nats", 4),
        Column("confidence", "mean confidence", 4),
        Column("accuracy", "accuracy", 4),
    )
    return Table("calibration", "Calibration", columns, rows)


def calibration_json(analysis: Analysis) -> dict[str, Any]:
    """`calibration.json`: the temperature, which weights it belongs to, and what it does."""
    return {
        "checkpoint": analysis.metrics["checkpoint"],
        "epoch": analysis.metrics["epoch"],
        "step": analysis.metrics.get("step", 0),
        "num_images": len(analysis.files),
        "binning": BINNING,
        **asdict(analysis.calibration),
    }
