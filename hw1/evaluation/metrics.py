"""Metrics of predictions: exact means over samples, in float64. NumPy alone, but for metrics by class, which need scikit-learn.

Everywhere `logits` is float [N, C] and `labels` int [N] with values in 0 ... C-1, N >= 1; anything else raises `ValueError`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithm of softmax over the last axis, float64 of the same shape; stable for logits of any size."""
    shifted: NDArray[np.float64] = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def nll(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the mean cross-entropy over samples in nats; a mean of batch means would overweight a smaller last batch."""
    _check(logits, labels)
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def top_k_accuracy(logits: NDArray[Any], labels: NDArray[Any], k: int) -> float:
    """Return the fraction of samples (0-1) whose label is among the `k` largest logits; `k` above C counts as C.

    Ties go to the lower class, as in `argmax`, so exactly `k` classes are predicted, and constant logits score the fraction of samples of
    the first `k` classes: chance level if classes are balanced. A label whose logit is NaN counts as wrong (unless k = C).

    Raises:
        ValueError: `k` is below 1.
    """
    _check(logits, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    label_logits = logits[np.arange(len(labels)), labels][:, None]
    comes_later = np.arange(logits.shape[1]) > labels[:, None]
    beaten = ((logits < label_logits) | ((logits == label_logits) & comes_later)).sum(axis=1)
    return float((beaten >= logits.shape[1] - k).mean())


def summarize(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float | int]:
    """Return `loss` (mean cross-entropy, nats), `top1` and `top5` (accuracies, 0-1) and `num_images`."""
    return {
        "loss": nll(logits, labels),
        "top1": top_k_accuracy(logits, labels, 1),
        "top5": top_k_accuracy(logits, labels, 5),
        "num_images": len(labels),
    }


def per_class(logits: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Compute precision, recall and F1 of the top-1 predictions for each class.

    A quotient 0/0 is 0: recall of a class without samples, precision of a class that is never predicted, F1 of a class with neither.

    Args:
        logits: [N, C].
        labels: [N].
        names: Name of each class, [C].

    Returns:
        One dict per class, in class order: `class` (its name), `support` (its samples), `precision`, `recall`, `f1`.

    Raises:
        ValueError: The number of names is not C.
    """
    from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

    _check(logits, labels)
    if len(names) != logits.shape[1]:
        raise ValueError(f"{len(names)} class names for {logits.shape[1]} classes")
    columns = precision_recall_fscore_support(labels, logits.argmax(axis=1), labels=range(len(names)), zero_division=0.0)
    precision, recall, f1, support = (column.tolist() for column in columns)
    return [
        {"class": name, "support": int(support[c]), "precision": precision[c], "recall": recall[c], "f1": f1[c]}
        for c, name in enumerate(names)
    ]


def class_averages(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return `macro_f1` over classes that are a label or a prediction, and `balanced_accuracy`, the mean recall of classes with samples."""
    from sklearn.metrics import f1_score, recall_score

    _check(logits, labels)
    predicted = logits.argmax(axis=1)
    return {
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "balanced_accuracy": float(recall_score(labels, predicted, labels=np.unique(labels), average="macro")),
    }


def confusion_matrix(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Count the samples [C, C] of class `row` whose top-1 prediction is class `column`."""
    from sklearn.metrics import confusion_matrix as count

    _check(logits, labels)
    return np.asarray(count(labels, logits.argmax(axis=1), labels=range(logits.shape[1])), dtype=np.int64)


def _check(logits: NDArray[Any], labels: NDArray[Any]) -> None:
    if logits.ndim != 2 or labels.shape != (len(logits),):
        raise ValueError(f"expected logits [N, C] and labels [N], got {logits.shape} and {labels.shape}")
    if not len(labels):
        raise ValueError("no samples")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be integers of 0 ... {logits.shape[1] - 1}, got {labels.dtype} {labels.min()} ... {labels.max()}")
