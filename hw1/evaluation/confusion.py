"""Where a model is wrong: confused pairs of classes, and the loss of each image. NumPy and SciPy; no torch."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.metrics import log_softmax


class ConfusedPair(NamedTuple):
    """A class that is mistaken for another one.

    Attributes:
        label: The true class.
        predicted: The class that is predicted instead.
        num_images: Images of `label` that are predicted as `predicted`.
        support: All images of `label`.
    """

    label: int
    predicted: int
    num_images: int
    support: int


def confused_pairs(confusion: NDArray[np.int64]) -> list[ConfusedPair]:
    """List every confused pair of the counts [C, C]: most images first, then the largest fraction of the class, then by class."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    support = confusion.sum(axis=1)
    labels, predicted = np.nonzero(wrong)
    pairs = [
        ConfusedPair(int(label), int(other), int(wrong[label, other]), int(support[label]))
        for label, other in zip(labels, predicted, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_images, pair.support, pair.label, pair.predicted))


def sample_losses(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cross-entropy of each sample in nats, [N]."""
    losses: NDArray[np.float64] = -log_softmax(logits)[np.arange(len(labels)), labels]
    return losses


def order_by_confusion(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a permutation [C] of the classes that puts confused classes side by side.

    Average linkage on 1 - (rate of a predicted as b + rate of b predicted as a) / 2, leaves in optimal order (Bar-Joseph et al. 2001,
    "Fast optimal leaf ordering for hierarchical clustering").

    Args:
        confusion: Counts [C, C].
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(confusion) < 3:
        return np.arange(len(confusion))
    rates = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    distance = 1 - (rates + rates.T) / 2
    np.fill_diagonal(distance, 0)
    return np.asarray(leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)), dtype=np.int64)
