"""Where a model is wrong: pairs of classes it confuses, images by their loss. NumPy and SciPy; no torch."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.metrics import log_softmax


class ConfusedPair(NamedTuple):
    """`images` of the `support` images of class `label` are taken for class `guess`."""

    label: int
    guess: int
    images: int
    support: int


def confused_pairs(confusion: NDArray[np.int64]) -> list[ConfusedPair]:
    """Every pair that occurs in the counts [C, C], most images first, then the largest share of the class, then by class."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    support = confusion.sum(axis=1)
    labels, guesses = np.nonzero(wrong)
    pairs = [
        ConfusedPair(int(label), int(guess), int(wrong[label, guess]), int(support[label]))
        for label, guess in zip(labels, guesses, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, pair.support, pair.label, pair.guess))


def sample_losses(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Cross-entropy of each sample in nats, [N]."""
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def order_by_confusion(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes in an order that puts those side by side which are taken for each other.

    Average linkage on 1 - (share of a taken for b + share of b taken for a) / 2, leaves in optimal order (Bar-Joseph et al. 2001, "Fast
    optimal leaf ordering for hierarchical clustering").
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(confusion) < 3:
        return np.arange(len(confusion))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    distance = 1 - (share + share.T) / 2
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)).astype(np.int64)
