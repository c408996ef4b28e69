"""Mistakes counted by hand, and an order that puts confused classes side by side."""

import numpy as np
import torch

from hw1.evaluation.confusion import ConfusedPair, confused_pairs, order_by_confusion, sample_losses


def test_pairs_by_images_then_share():
    counts = np.array([[5, 2, 0], [2, 0, 1], [0, 3, 9]])
    assert confused_pairs(counts) == [
        ConfusedPair(2, 1, 3, 12),
        ConfusedPair(1, 0, 2, 3),  # 2 of 3 before 2 of 7
        ConfusedPair(0, 1, 2, 7),
        ConfusedPair(1, 2, 1, 3),
    ]
    assert confused_pairs(np.diag([3, 0, 2])) == []
    assert counts[2, 2] == 9, "the counts are left as they are"


def test_losses_are_torchs():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20)
    wide = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels), reduction="none")
    np.testing.assert_allclose(sample_losses(logits, labels), wide.numpy())


def test_confused_classes_are_neighbours():
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(30)
    counts = np.diag(np.full(30, 10))
    for first in range(0, 30, 3):  # ten groups of three that are mistaken for each other
        group = shuffled[first : first + 3]
        counts[np.ix_(group, group)] += 4
    order = order_by_confusion(counts)
    assert sorted(order) == list(range(30))
    found = {frozenset(order[i : i + 3].tolist()) for i in range(0, 30, 3)}
    assert found == {frozenset(shuffled[i : i + 3].tolist()) for i in range(0, 30, 3)}


def test_few_classes_keep_their_order():
    assert order_by_confusion(np.array([[3, 1], [0, 0]])).tolist() == [0, 1]
    assert sorted(order_by_confusion(np.zeros((4, 4), dtype=np.int64))) == [0, 1, 2, 3]
