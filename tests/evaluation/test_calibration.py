"""Calibration against loops, scikit-learn and torch; the temperature against data whose temperature is known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from hw1.evaluation.calibration import (
    MIN_TEMPERATURE,
    apply_temperature,
    brier,
    calibrate,
    confidences,
    cross_fit,
    ece_by_chance,
    equal_mass,
    equal_width,
    fit_temperature,
    measure,
    scale,
)
from hw1.evaluation.metrics import nll


def drawn(num: int = 4000, classes: int = 10, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 and labels drawn from softmax(logits / temperature): perfectly calibrated at that temperature."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(num, classes)) * 3).astype(np.float32)
    wide = logits.astype(np.float64) / temperature
    gumbel = -np.log(-np.log(rng.random((num, classes))))
    return logits, (wide + gumbel).argmax(1)


def loop_ece(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> float:
    total = 0.0
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = [(c, r) for c, r in zip(confidence, correct, strict=True) if (low < c or i == 0) and c <= high]
        if inside:
            total += len(inside) / len(confidence) * abs(np.mean([c for c, _ in inside]) - np.mean([r for _, r in inside]))
    return total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_errors_are_those_of_a_loop_over_the_bins(temperature):
    logits, labels = drawn(500, temperature=temperature)
    confidence, correct = confidences(logits), logits.argmax(1) == labels
    np.testing.assert_allclose(confidence, torch.from_numpy(logits).double().softmax(1).max(1).values)
    found = measure(logits, labels)
    assert found["ece"] == pytest.approx(loop_ece(confidence, correct, np.arange(16) / 15))
    masses = np.percentile(confidence, np.arange(16) * 100 / 15)
    assert found["adaptive_ece"] == pytest.approx(loop_ece(confidence, correct, masses))
    assert (found["confidence"], found["accuracy"]) == (pytest.approx(confidence.mean()), correct.mean())


def test_bins_are_scikit_learns():
    logits, labels = drawn(702, temperature=2.0)  # 701 steps between images, which 15 bins cannot share: no edge falls on an image
    confidence, correct = confidences(logits), logits.argmax(1) == labels
    for bins, strategy in ((equal_width(confidence, correct), "uniform"), (equal_mass(confidence, correct), "quantile")):
        accuracy, mean = calibration_curve(correct, confidence, n_bins=15, strategy=strategy)
        filled = bins.counts > 0
        np.testing.assert_allclose(bins.accuracy[filled], accuracy)
        np.testing.assert_allclose(bins.confidence[filled], mean)
        assert bins.counts.sum() == 702
    assert np.ptp(equal_mass(confidence, correct).counts) <= 1


def test_the_edges_of_bins_and_equal_confidences():
    bins = equal_width(np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 1.0]), np.array([False, True, True, True]))
    assert bins.counts.tolist() == [2, 1] + [0] * 12 + [1]
    tied = equal_mass(np.array([1.0] * 40), np.array([True] * 30 + [False] * 10))
    assert tied.error == pytest.approx(0.25), "one confidence, one bin: splitting it would make up errors"


def test_brier_is_scikit_learns():
    logits, labels = drawn(300)
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    assert brier(logits, labels) == pytest.approx(brier_score_loss(labels, probabilities, labels=range(10)))
    assert brier(np.array([[0.0, 1e9]]), np.array([0])) == 2.0


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_of_drawn_labels_is_recovered(temperature):
    logits, labels = drawn(20_000, temperature=temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_where_torchs_gradient_is_zero():
    logits, labels = drawn(800, temperature=1.7)
    log_t = torch.tensor(np.log(fit_temperature(logits, labels)), requires_grad=True)
    torch.nn.functional.cross_entropy(torch.from_numpy(logits).double() / log_t.exp(), torch.from_numpy(labels)).backward()
    assert abs(log_t.grad.item()) < 1e-5


def test_where_all_predictions_are_correct_the_temperature_stays_finite():
    assert MIN_TEMPERATURE <= fit_temperature(np.eye(4) * 3, np.arange(4)) < 0.1


def test_scaling_changes_no_prediction_and_improves_the_calibration():
    logits, labels = drawn(temperature=2.5)
    found = calibrate(logits, labels)
    assert (scale(logits, found.temperature).argmax(1) == logits.argmax(1)).all()
    assert found.before["ece"] > 0.1 > found.chance[1]
    assert found.after["ece"] < found.before["ece"] / 3
    assert found.after["nll"] < found.before["nll"]
    assert found.after["accuracy"] == found.before["accuracy"]
    assert found.in_sample["nll"] <= found.after["nll"], "what is fitted on the images themselves flatters"


def test_no_image_has_a_part_in_its_own_temperature():
    logits, labels = drawn(40)
    plain = cross_fit(logits, labels)
    scaled = plain[:, 0] / logits[:, 0]
    assert len(np.unique(scaled.round(6))) == 2
    changed = labels.copy()
    changed[0] = (labels[0] + 1) % 10
    again = cross_fit(logits, changed)[:, 0] / logits[:, 0]
    same_half = np.isclose(scaled, scaled[0])
    assert same_half.sum() == 20
    np.testing.assert_allclose(again[same_half], scaled[same_half])
    assert not np.isclose(again[~same_half], scaled[~same_half]).any()
    assert cross_fit(logits[:1], labels[:1]).tolist() == logits[:1].tolist()


def test_a_calibrated_model_is_within_chance_and_another_is_not():
    inside = 0
    for seed in range(20):
        logits, labels = drawn(400, seed=seed)
        found = calibrate(logits, labels)
        inside += found.before["ece"] <= found.chance[1]
        assert found.chance[0] < found.chance[1]
    assert inside >= 17  # 95% of 20 on average
    confidence = confidences(drawn(20_000)[0])
    assert ece_by_chance(confidence)[1] < 0.02


def test_a_temperature_from_elsewhere_is_measured_as_it_is():
    logits, labels = drawn(500)
    found = apply_temperature(logits, labels, 2.0)
    assert found.after == measure(logits / 2.0, labels)
    assert found.after["nll"] == pytest.approx(nll(logits.astype(np.float64) / 2, labels))
    assert (found.cross_fitted, found.in_sample) == (False, None)
    assert apply_temperature(logits, labels, None).after is None
