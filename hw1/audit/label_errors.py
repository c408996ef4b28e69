"""Find images that a trained model doubts, by its out-of-sample probabilities: probable label errors, and the least certain."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.audit.inventory import Inventory
from hw1.errors import UserError
from hw1.evaluation.metrics import log_softmax

NUM_OUTLIERS = 24
OUT_OF_FOLD = "out_of_fold.npz"
"""In the folder of `hw1 folds`: a prediction of every labelled image by a run that never saw it."""


class LabelError(NamedTuple):
    """An image that the model doubts."""

    file: str
    """POSIX path relative to the root."""
    label: str
    """Name of its class folder."""
    predicted: str
    """Name of the likeliest class."""
    label_probability: float
    """0-1."""
    predicted_probability: float
    """0-1."""


class LabelErrors(NamedTuple):
    """What the model of a run says of the data."""

    run: str
    """The run folder, or that of the folds."""
    num_images: int
    """Number of images that both the run and the data have."""
    accuracy: float
    """Top-1 accuracy of the model on them, 0-1: a weak model doubts much that is right."""
    labels: list[LabelError]
    """Probable label errors, worst first."""
    outliers: list[LabelError]
    """The least certain predictions, a ranking that always has members."""


def find_label_errors(source: Path, path: Path, inventory: Inventory) -> LabelErrors:
    """Find label errors by predictions of images that their model was not trained on.

    Args:
        source: The run folder, or that of the folds.
        path: Its file of predictions.
        inventory: The images.

    Raises:
        UserError: There are no predictions, or none of images that the data has.
    """
    from hw1.evaluation.predictions import load_predictions  # loads torch

    predictions, files, names = load_predictions(path)
    in_data = {image.file for image in inventory.images}
    rows = np.array([row for row, file in enumerate(files) if file in in_data and predictions.labels[row] >= 0], dtype=np.int64)
    if not len(rows):
        raise UserError(f"{path}: of none of the images in {inventory.root}; it was made with other data")
    probabilities = np.exp(log_softmax(predictions.logits[rows]))
    labels = predictions.labels[rows]
    best = probabilities.argmax(axis=1)

    def label_error(row: int) -> LabelError:
        label, predicted = int(labels[row]), int(best[row])
        chances = float(probabilities[row, label]), float(probabilities[row, predicted])
        return LabelError(files[rows[row]], names[label] or str(label), names[predicted] or str(predicted), *chances)

    confidence = probabilities.max(axis=1)
    margin = probabilities[np.arange(len(rows)), labels] - confidence
    doubted = np.flatnonzero(is_label_error(probabilities, labels))
    by_margin = doubted[np.argsort(margin[doubted], kind="stable")]
    least_certain = np.argsort(confidence, kind="stable")[:NUM_OUTLIERS]
    wrong, outliers = ([label_error(row) for row in ranked.tolist()] for ranked in (by_margin, least_certain))
    return LabelErrors(str(source), len(rows), float((best == labels).mean()), wrong, outliers)


def is_label_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Decide which labels are probably wrong.

    After confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021, the confident joint): a sample belongs to class j if its
    probability of j is at least the mean that samples labelled j have. Stricter than there, j must also be the likeliest class. No sample
    belongs to a class that is no sample's label.

    Args:
        probabilities: float64 [N, C].
        labels: int64 [N].

    Returns:
        bool [N].
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=probabilities.shape[1])
    threshold = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    best = probabilities.argmax(axis=1)
    return np.asarray((best != labels) & (probabilities.max(axis=1) >= threshold[best]))
