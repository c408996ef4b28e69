"""Analyse logits and labels: everything that the page, the tables and the figures of an evaluation show."""

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
    """The evaluation of N images of C classes.

    Attributes:
        names: Name of each class, [C], never empty.
        files: Name of each image, [N].
        labels: True classes, [N].
        predicted: Predicted classes, [N].
        confidence: Confidence of each prediction at the requested temperature, [N], in 0-1.
        losses: Cross-entropy of each image at the requested temperature in nats, [N].
        metrics: The content of `metrics.json`.
        confusion: Counts [C, C]; row: the label, column: the prediction.
        pairs: Confused pairs of classes, most images first.
        calibration: Calibration of the unscaled logits, whatever temperature was requested.
        class_metrics: Result of `per_class`, [C].
    """

    names: Sequence[str]
    files: Sequence[str]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    losses: NDArray[np.float64]
    metrics: dict[str, Any]
    confusion: NDArray[np.int64]
    pairs: list[ConfusedPair]
    calibration: Calibration
    class_metrics: list[dict[str, Any]]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, [N]."""
        return np.asarray(self.predicted == self.labels)

    def by_loss(self, mask: NDArray[np.bool_]) -> list[int]:
        """Return the positions of the images of `mask` [N] by increasing loss."""
        indices = np.flatnonzero(mask)
        return [int(i) for i in indices[np.argsort(self.losses[indices], kind="stable")]]


def analyse(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    files: Sequence[str],
    names: Sequence[str],
    facts: dict[str, Any],
    *,
    temperature: float = 1.0,
    fitted_temperature: float | None = None,
    fit_temperature: bool = False,
) -> Analysis:
    """Compute all metrics of an evaluation.

    Args:
        logits: float32 [N, C].
        labels: int64 [N].
        files: Name of each image, [N].
        names: Name of each class, [C]; an empty one is replaced by the number of the class.
        facts: Written first into the metrics.
        temperature: Divides the logits of everything but the calibration.
        fitted_temperature: A temperature fitted on other images, whose effect the calibration measures; None for none.
        fit_temperature: Whether the calibration fits a temperature on these images instead.

    Raises:
        RunError: A logit is not finite.
    """
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        first = files[int(broken.argmax())]
        raise RunError(f"{first}: the model's answer is not a finite number, as for {broken.sum()} of {len(files)} images")
    scaled = scale(logits, temperature)
    names = [name or str(label) for label, name in enumerate(names)]
    confusion = confusion_matrix(scaled, labels)
    return Analysis(
        names=names,
        files=files,
        labels=labels,
        predicted=scaled.argmax(axis=1),
        confidence=confidences(scaled),
        losses=sample_losses(scaled, labels),
        metrics={**facts, "temperature": temperature, **_metrics(scaled, labels)},
        confusion=confusion,
        pairs=confused_pairs(confusion),
        calibration=calibrate(logits, labels) if fit_temperature else apply_temperature(logits, labels, fitted_temperature),
        class_metrics=per_class(scaled, labels, names),
    )


def _metrics(logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, Any]:
    metrics = summarize(logits, labels)
    total = int(metrics["num_images"])
    intervals = {f"{key}_interval": proportion_interval(round(metrics[key] * total), total) for key in ("top1", "top5")}
    calibration = {key: value for key, value in measure(logits, labels).items() if key in ("brier", "ece", "adaptive_ece")}
    return {**metrics, **intervals, **class_averages(logits, labels), **calibration}


def class_table(analysis: Analysis) -> Table:
    """Tabulate precision, recall and F1 of every class."""
    columns = (
        Column("class", "class"),
        Column("precision", "precision", 3),
        Column("recall", "recall", 3),
        Column("f1", "F1", 3),
        Column("support", "support", 0),
    )
    return Table("per_class", "All classes", columns, analysis.class_metrics)


def pair_table(analysis: Analysis) -> Table:
    """Tabulate every confused pair of classes, most images first."""
    rows = [
        {
            "class": analysis.names[pair.label],
            "guess": analysis.names[pair.predicted],
            "images": pair.num_images,
            "support": pair.support,
            "share": pair.num_images / pair.support,
            "reverse": int(analysis.confusion[pair.predicted, pair.label]),
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
    """Tabulate every image, the largest loss first."""
    rows = [
        {
            "file": analysis.files[i],
            "class": analysis.names[analysis.labels[i]],
            "guess": analysis.names[analysis.predicted[i]],
            "confidence": float(analysis.confidence[i]),
            "loss": float(analysis.losses[i]),
        }
        for i in np.argsort(-analysis.losses, kind="stable")
    ]
    columns = (
        Column("file", "file"), Column("class", "class"), Column("guess", "prediction"), Column("confidence", "confidence", 3),
        Column("loss", "loss", 3),
    )  # fmt: skip
    return Table("worst", "All images, the largest loss first", columns, rows)


def calibration_table(analysis: Analysis) -> Table:
    """Tabulate the calibration before and after temperature scaling."""
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
    """Return the content of `calibration.json`: the temperature, which weights it belongs to, and its effect."""
    return {
        "checkpoint": analysis.metrics["checkpoint"],
        "epoch": analysis.metrics["epoch"],
        "step": analysis.metrics.get("step", 0),
        "num_images": len(analysis.files),
        "binning": BINNING,
        **asdict(analysis.calibration),
    }
