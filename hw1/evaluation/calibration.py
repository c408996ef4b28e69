"""Can a confidence be trusted: calibration error, Brier score, temperature scaling. NumPy and SciPy; no torch.

As in `hw1.evaluation.metrics`, `logits` is float [N, C], finite, and `labels` int [N]. The confidence of a guess is the
largest softmax probability.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.metrics import log_softmax, nll

NUM_BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
CHANCE_DRAWS = 200
BINNING = f"the confidence of the guess in {NUM_BINS} bins, of equal width for ECE, of equally many images for the adaptive one"


@dataclass(frozen=True, eq=False)
class Bins:
    """Guesses by confidence: bin i holds those in (edges[i], edges[i + 1]], the first its lower edge too.

    `edges` [B + 1]; `counts` int64 [B]; mean `confidence` and `accuracy` [B], NaN where a bin is empty.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Mean over all guesses of |accuracy - confidence| of the bin that they are in."""
        filled = self.counts > 0
        return float(self.counts[filled] @ np.abs(self.accuracy - self.confidence)[filled] / self.counts.sum())


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found; `before`, `after` and `in_sample` as `measure` has them.

    `temperature`: what to divide logits by; None where there is none. `after`: with a temperature that these images had no part in: that
    of another split, or each half with the other half's (`cross_fitted`). `in_sample`: with one fitted on these very images.
    `chance`: mean and 95% quantile of the ECE that a perfectly calibrated model with these confidences shows.
    """

    before: dict[str, float]
    chance: tuple[float, float]
    temperature: float | None = None
    cross_fitted: bool = False
    after: dict[str, float] | None = None
    in_sample: dict[str, float] | None = None


def calibrate(logits: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """Fits the temperature on these images, and measures what it does by cross-fitting on halves."""
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
    """Measures what a temperature that was fitted on other images does on these; None measures the confidences as they are."""
    before, chance = measure(logits, labels), ece_by_chance(confidences(logits))
    after = None if temperature is None else measure(scale(logits, temperature), labels)
    return Calibration(before, chance, temperature, after=after)


def measure(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """`nll` in nats, `brier` (0-2), `ece` and `adaptive_ece` (0-1), and the mean `confidence` and `accuracy` (0-1)."""
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
    """The largest softmax probability of each sample, [N]."""
    return np.exp(log_softmax(logits).max(axis=1))


def equal_width(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Bins:
    """15 bins of one width; their error is the ECE of Guo et al. 2017, "On calibration of modern neural networks", equation 3."""
    return _fill(confidence, correct, np.linspace(0, 1, NUM_BINS + 1))


def equal_mass(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Bins:
    """15 bins of equally many guesses, but that equal confidences stay together: the adaptive bins of Nixon et al. 2019, "Measuring
    calibration in deep learning", of the guess's confidence only, as Mukhoti et al. 2020 ("Calibrating deep neural networks using focal
    loss") take them.
    """
    return _fill(confidence, correct, np.quantile(confidence, np.linspace(0, 1, NUM_BINS + 1)))


def ece_by_chance(confidence: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Mean and 95% quantile of the ECE if every guess were right with a chance of exactly its confidence.

    An ECE is never 0 on a finite set; below this quantile nothing was found. Answers are redrawn (Bröcker & Smith 2007, "Increasing the
    reliability of reliability diagrams").
    """
    rng = np.random.default_rng(seed)
    draws = [equal_width(confidence, rng.random(len(confidence)) < confidence).error for _ in range(CHANCE_DRAWS)]
    return float(np.mean(draws)), float(np.quantile(draws, 0.95))


def brier(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean over samples of the squared distance (0-2) between probabilities and the one-hot label (Brier 1950)."""
    probabilities = np.exp(log_softmax(logits))
    probabilities[np.arange(len(labels)), labels] -= 1
    return float((probabilities**2).sum(axis=1).mean())


def scale(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Logits over the temperature, float64: above 1 confidences become smaller; no guess changes."""
    return np.asarray(logits, dtype=np.float64) / temperature


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature, 0.05 to 20, with the smallest cross-entropy (Guo et al. 2017, section 4.2).

    Cross-entropy is convex in 1/T, so that there is one minimum; where all guesses are right it is near the lower end.
    """
    from scipy.optimize import minimize_scalar  # half a second to import

    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    found = minimize_scalar(lambda log_t: nll(scale(logits, np.exp(log_t)), labels), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def cross_fit(logits: NDArray[Any], labels: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """Logits over the temperature that the other half of the images has; halves are drawn at random. One image stays as it is."""
    scaled = scale(logits, 1.0)
    if len(labels) > 1:
        halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
        for own, other in (halves, halves[::-1]):
            scaled[own] /= fit_temperature(logits[other], labels[other])
    return scaled


def _fill(confidence: NDArray[np.float64], correct: NDArray[np.bool_], edges: NDArray[np.float64]) -> Bins:
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=values, minlength=len(counts)) / counts for values in (confidence, correct)]
    return Bins(edges, counts, means[0], means[1])
