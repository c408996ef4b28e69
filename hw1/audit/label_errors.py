"""Images that a trained model doubts: probably a wrong label, or unlike anything it knows. From its out-of-sample probabilities."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.audit.inventory import Inventory
from hw1.errors import UserError
from hw1.evaluation.metrics import log_softmax
from hw1.runs.folder import RunFolder

NUM_OUTLIERS = 24


class LabelError(NamedTuple):
    file: str
    label: str
    """The folder that it lies in."""
    predicted: str
    label_probability: float
    predicted_probability: float


class LabelErrors(NamedTuple):
    """`labels`: probable label errors, worst first. `outliers`: the least certain predictions, a ranking that always has members."""

    run: str
    num_images: int
    """Images that both the run and the data have."""
    accuracy: float
    """The model's top-1 on them, 0-1: a weak model doubts much that is right."""
    labels: list[LabelError]
    outliers: list[LabelError]


def find_label_errors(run: RunFolder, inventory: Inventory) -> LabelErrors:
    """Reads the run's validation predictions. Raises UserError if there are none, or none of images that the data has."""
    from hw1.evaluation.predictions import load_predictions  # loads torch

    predictions, files, names = load_predictions(run.val_predictions)
    present = {image.file for image in inventory.images}
    rows = np.array([row for row, file in enumerate(files) if file in present and predictions.labels[row] >= 0], dtype=np.int64)
    if not len(rows):
        raise UserError(f"{run.val_predictions}: of none of the images in {inventory.root}; it was made with other data")
    probabilities = np.exp(log_softmax(predictions.logits[rows]))
    labels = predictions.labels[rows]
    best = probabilities.argmax(axis=1)

    def label_error(row: int, other: int) -> LabelError:
        own = int(labels[row])
        chances = float(probabilities[row, own]), float(probabilities[row, other])
        return LabelError(files[rows[row]], names[own] or str(own), names[other] or str(other), *chances)

    doubted = np.flatnonzero(is_label_error(probabilities, labels))
    margin = probabilities[np.arange(len(rows)), labels] - probabilities.max(axis=1)
    order = doubted[np.argsort(margin[doubted], kind="stable")]
    unsure = np.argsort(probabilities.max(axis=1), kind="stable")[:NUM_OUTLIERS]
    wrong, outliers = ([label_error(int(row), int(best[row])) for row in rows_of] for rows_of in (order, unsure))
    return LabelErrors(str(run.path), len(rows), float((best == labels).mean()), wrong, outliers)


def is_label_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[N, C] and [N] -> [N]: whether the label is suspected.

    After confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021, the confident joint): a sample belongs to class j if its
    probability of j is at least the mean that samples labelled j have. Stricter than there, j must also be the likeliest class. A class
    that is no sample's label has no members.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=probabilities.shape[1])
    threshold = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    best = probabilities.argmax(axis=1)
    return (best != labels) & (probabilities.max(axis=1) >= threshold[best])
