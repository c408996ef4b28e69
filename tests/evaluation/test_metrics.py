"""Metrics against torch in float64, formulas written out here, and cases worked by hand."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hw1.evaluation.metrics import class_averages, confusion_matrix, log_softmax, nll, per_class, summarize, top_k_accuracy


def sample(num: int = 301, classes: int = 12, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, classes, num)
    logits = rng.normal(size=(num, classes)) * scale
    logits[np.arange(num), labels] += scale
    return logits.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0, 1e30])
def test_log_softmax_and_nll_are_torchs_in_float64(scale):
    logits, labels = sample(scale=scale)
    wide = torch.from_numpy(logits).double()
    np.testing.assert_allclose(log_softmax(logits), F.log_softmax(wide, dim=1).numpy(), rtol=1e-12, atol=1e-12)
    assert log_softmax(logits).dtype == np.float64
    assert nll(logits, labels) == pytest.approx(F.cross_entropy(wide, torch.from_numpy(labels)).item(), rel=1e-12)


def test_nll_is_the_mean_over_samples_not_over_batches():
    logits, labels = sample(num=300)
    batch_means = [nll(logits[i : i + 32], labels[i : i + 32]) for i in range(0, 300, 32)]
    sizes = [len(labels[i : i + 32]) for i in range(0, 300, 32)]
    assert nll(logits, labels) == pytest.approx(np.average(batch_means, weights=sizes), rel=1e-12)
    assert nll(logits, labels) != pytest.approx(np.mean(batch_means), rel=1e-6)


def test_metrics_do_not_depend_on_the_order_of_samples():
    logits, labels = sample()
    order = np.random.default_rng(0).permutation(len(labels))
    assert summarize(logits[order], labels[order]) == pytest.approx(summarize(logits, labels), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 11])
def test_top_k_is_torchs_where_nothing_ties(k):
    logits, labels = sample(scale=1.0)
    found = torch.from_numpy(logits).topk(k, dim=1).indices == torch.from_numpy(labels)[:, None]
    assert top_k_accuracy(logits, labels, k) == pytest.approx(found.any(1).double().mean().item(), rel=1e-12)
    assert 0.1 < top_k_accuracy(logits, labels, k) < 1.0


def test_top_1_is_argmax_and_top_k_a_stable_sort_with_ties_too():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 4, (500, 9)).astype(np.float32)
    labels = rng.integers(0, 9, 500)
    assert top_k_accuracy(logits, labels, 1) == np.mean(logits.argmax(1) == labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    for k in range(1, 10):
        assert top_k_accuracy(logits, labels, k) == np.mean((order[:, :k] == labels[:, None]).any(1))


@pytest.mark.parametrize(("k", "chance"), [(1, 0.01), (5, 0.05), (100, 1.0)])
def test_constant_logits_score_chance(k, chance):
    labels = np.repeat(np.arange(100), 3)
    assert top_k_accuracy(np.zeros((300, 100), np.float32), labels, k) == pytest.approx(chance)


def test_nan_is_never_right():
    labels = np.arange(4)
    assert top_k_accuracy(np.full((4, 4), np.nan, np.float32), labels, 1) == 0.0
    assert top_k_accuracy(np.full((4, 4), np.nan, np.float32), labels, 3) == 0.0
    assert np.isnan(nll(np.full((4, 4), np.nan, np.float32), labels))


def test_k_beyond_the_classes_counts_as_all():
    logits, labels = sample(num=20, classes=3)
    assert top_k_accuracy(logits, labels, 5) == 1.0
    assert summarize(logits, labels)["top5"] == 1.0
    assert summarize(logits, labels)["top1"] < 1.0


def test_summary_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]))
    got = summarize(logits, np.array([0, 2]))
    assert got == {"loss": pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2), "top1": 0.5, "top5": 1.0, "num_images": 2}


def test_summary_is_the_measures():
    logits, labels = sample(scale=1.0)
    parts = {"loss": nll(logits, labels), "top1": top_k_accuracy(logits, labels, 1), "top5": top_k_accuracy(logits, labels, 5)}
    assert summarize(logits, labels) == {**parts, "num_images": 301}
    assert parts["top1"] < parts["top5"] < 1.0


def test_per_class_by_hand():
    predicted = [0, 0, 1, 1, 1, 0]
    labels = np.array([0, 0, 0, 1, 1, 2])
    rows = per_class(np.eye(4)[predicted], labels, ["a", "b", "c", ""])
    assert rows == [
        {"class": "a", "support": 3, "precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)},
        {"class": "b", "support": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8)},
        {"class": "c", "support": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0},
        {"class": "", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]


def test_support_counts_whole_images_where_labels_are_few():
    rows = per_class(np.eye(100)[:50], np.arange(50), ["x"] * 100)
    assert [repr(row["support"]) for row in rows] == ["1"] * 50 + ["0"] * 50


def test_per_class_is_the_formula():
    logits, labels = sample(scale=1.0)
    predicted = logits.argmax(1)
    rows = per_class(logits, labels, [f"c{i}" for i in range(12)])
    for c, row in enumerate(rows):
        hits = np.sum((predicted == c) & (labels == c))
        precision, recall = hits / np.sum(predicted == c), hits / np.sum(labels == c)
        assert (row["class"], row["support"]) == (f"c{c}", np.sum(labels == c))
        assert row["precision"] == pytest.approx(precision)
        assert row["recall"] == pytest.approx(recall)
        assert row["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    weighted = np.average([row["recall"] for row in rows], weights=[row["support"] for row in rows])
    assert weighted == pytest.approx(top_k_accuracy(logits, labels, 1))


def test_averages_and_confusion_are_the_formulas():
    logits, labels = sample(scale=1.0)
    labels[labels == 3] = 4  # a class that is predicted, but never a label
    predicted = logits.argmax(1)
    counts = confusion_matrix(logits, labels)
    assert counts.tolist() == [[np.sum((labels == a) & (predicted == b)) for b in range(12)] for a in range(12)]
    f1 = [2 * counts[c, c] / (counts[c].sum() + counts[:, c].sum()) for c in range(12)]
    assert f1[3] == 0.0
    recall = [counts[c, c] / counts[c].sum() for c in range(12) if c != 3]
    averages = class_averages(logits, labels)
    assert averages == {"macro_f1": pytest.approx(np.mean(f1)), "balanced_accuracy": pytest.approx(np.mean(recall))}


def test_classes_that_never_occur_are_in_no_average():
    assert class_averages(np.eye(5)[[0, 1, 1]], np.array([0, 1, 0])) == {
        "macro_f1": pytest.approx(2 / 3),
        "balanced_accuracy": pytest.approx(0.75),
    }


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64)),
        (np.zeros((2, 3)), np.array([0, -1])),
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.array([0.0, 1.0])),
        (np.zeros((2, 3)), np.array([0])),
        (np.zeros(3), np.array([0, 1, 2])),
    ],
)
def test_wrong_arrays_are_refused(logits, labels):
    for measure in (
        nll,
        summarize,
        class_averages,
        confusion_matrix,
        lambda a, b: top_k_accuracy(a, b, 1),
        lambda a, b: per_class(a, b, ["a", "b", "c"]),
    ):
        with pytest.raises(ValueError, match=r"samples|labels"):
            measure(logits, labels)


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        per_class(np.zeros((1, 3)), np.array([0]), ["a", "b"])
    with pytest.raises(ValueError, match="k must be"):
        top_k_accuracy(np.zeros((1, 3)), np.array([0]), 0)


def test_needs_numpy_alone():
    code = "import hw1.evaluation.metrics, sys; sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'sklearn', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
