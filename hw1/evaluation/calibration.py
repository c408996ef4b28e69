"""Calibration of confidences: calibration error, Brier score, temperature scaling. NumPy and SciPy; no torch.

As in `hw1.evaluation.metrics`, `logits` is float [N, C], finite, and `labels` int [N]. The confidence of a prediction is the largest
softmax probability.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.metrics import log_softmax, nll

NUM_BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
NUM_CHANCE_DRAWS = 200
BINNING = f"the confidence of the prediction in {NUM_BINS} bins, of equal width for ECE, of equally many images for the adaptive one"


@dataclass(frozen=True, eq=False)
class Bins:
    """Predictions in B bins by confidence: bin i is (edges[i], edges[i + 1]], and bin 0 includes its lower edge.

    Attributes:
        edges: Edges of the bins, [B + 1].
        counts: Number of predictions in each bin, [B].
        confidence: Mean confidence of each bin, [B]; NaN where a bin is empty.
        accuracy: Accuracy of each bin, [B]; NaN where a bin is empty.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Calibration error: |accuracy - confidence| of the bins, weighted by their counts."""
        filled = self.counts > 0
        return float(self.counts[filled] @ np.abs(self.accuracy - self.confidence)[filled] / self.counts.sum())


@dataclass(frozen=True)
class Calibration:
    """Calibration of a set of images, before and after temperature scaling.

    Attributes:
        before: Metrics of `measure` for the logits as they are.
        chance: Mean and 95% quantile of the ECE of a perfectly calibrated model with these confidences.
        temperature: What to divide the logits by; None if there is none.
        cross_fitted: Whether `after` scales each half of the images with the temperature of the other half.
        after: Metrics with a temperature that these images had no part in: cross-fitted, or fitted on another split.
        in_sample: Metrics with a temperature fitted on these very images.
    """

    before: dict[str, float]
    chance: tuple[float, float]
    temperature: float | None = None
    cross_fitted: bool = False
    after: dict[str, float] | None = None
    in_sample: dict[str, float] | None = None


def calibrate(logits: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """Fit the temperature on these images, and measure its effect by cross-fitting on halves."""
    temperature = fit_temperature(logits, labels)
    return Calibration(
        before=measure(logits, labels),
        chance=ece_by_chance(confidences(logits)),
        temperature=temperature,
        cross_fitted=True,
        after=measure(cross_fit(logits, labels), labels),
        in_sample=measure(scale(logits, temperature), labels),
    )


def apply_temperature(logits: NDArray[Any], labels: NDArray[Any], temperature: float | None) -> Calibration:
    """Measure the effect of a temperature that was fitted on other images; None measures the confidences as they are."""
    before, chance = measure(logits, labels), ece_by_chance(confidences(logits))
    after = None if temperature is None else measure(scale(logits, temperature), labels)
    return Calibration(before, chance, temperature, after=after)


def measure(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Measure the calibration of logits.

    Returns:
        `nll` in nats, `brier` (0-2), `ece` and `adaptive_ece` (0-1), mean `confidence` and `accuracy` (0-1).
    """
    confidence, correct = confidences(logits), logits.argmax(axis=1) == labels
    return {
        "nll": nll(logits, labels),
        "brier": brier(logits, labels),
        "ece": equal_width(confidence, correct).error,
        "adaptive_ece": equal_mass(confidence, correct).error,
        "confidence": float(confidence.mean()),
        "accuracy": float(correct.mean()),
    }


def confidences(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest softmax probability of each sample, [N]."""
    largest: NDArray[np.float64] = np.exp(log_softmax(logits).max(axis=1))
    return largest


def equal_width(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Bins:
    """Bin predictions into `NUM_BINS` bins of equal width.

    The error of these bins is the ECE of Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    Args:
        confidence: Confidences in 0-1, [N].
        correct: Whether each prediction is correct, [N].
    """
    return _bin(confidence, correct, np.linspace(0, 1, NUM_BINS + 1))


def equal_mass(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Bins:
    """Bin predictions into `NUM_BINS` bins of equally many, except that equal confidences share a bin; arguments as in `equal_width`.

    These are the adaptive bins of Nixon et al. 2019, "Measuring calibration in deep learning", of the predicted class's confidence only,
    as in Mukhoti et al. 2020, "Calibrating deep neural networks using focal loss".
    """
    return _bin(confidence, correct, np.quantile(confidence, np.linspace(0, 1, NUM_BINS + 1)))


def ece_by_chance(confidence: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return mean and 95% quantile of the ECE of a model that is right with a probability of exactly its confidence.

    An ECE is never 0 on a finite set; one below this quantile shows no miscalibration. Correct and wrong are redrawn for the given
    confidences (Bröcker & Smith 2007, "Increasing the reliability of reliability diagrams").
    """
    rng = np.random.default_rng(seed)
    draws = [equal_width(confidence, rng.random(len(confidence)) < confidence).error for _ in range(NUM_CHANCE_DRAWS)]
    return float(np.mean(draws)), float(np.quantile(draws, 0.95))


def brier(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the Brier score (Brier 1950): the mean squared distance (0-2) between probabilities and one-hot labels."""
    probabilities = np.exp(log_softmax(logits))
    probabilities[np.arange(len(labels)), labels] -= 1
    return float((probabilities**2).sum(axis=1).mean())


def scale(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Divide logits by a temperature, in float64; above 1 confidences become smaller. The predicted classes stay the same."""
    return np.asarray(logits, dtype=np.float64) / temperature


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the temperature, 0.05 to 20, with the smallest cross-entropy (Guo et al. 2017, section 4.2).

    Cross-entropy is convex in 1/T, so there is one minimum; where all predictions are correct it is near the lower end.
    """
    from scipy.optimize import minimize_scalar  # half a second to import

    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    minimum = minimize_scalar(lambda log_t: nll(scale(logits, np.exp(log_t)), labels), bounds=bounds, method="bounded")
    return float(np.exp(minimum.x))


def cross_fit(logits: NDArray[Any], labels: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """Divide the logits of each random half of the images by the temperature of the other half; a single image stays as it is."""
    scaled = scale(logits, 1.0)
    if len(labels) > 1:
        halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
        for half, other in (halves, halves[::-1]):
            scaled[half] /= fit_temperature(logits[other], labels[other])
    return scaled


def _bin(confidence: NDArray[np.float64], correct: NDArray[np.bool_], edges: NDArray[np.float64]) -> Bins:
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(bin_of, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bin_of, weights=values, minlength=len(counts)) / counts for values in (confidence, correct)]
    return Bins(edges, counts, means[0], means[1])
