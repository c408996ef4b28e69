"""What the runs of all folds say together: a prediction for every image by a run that never saw it, and one honest accuracy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw1.errors import UserError
from hw1.evaluation.predictions import Predictions, SavedPredictions, load_predictions
from hw1.evaluation.significance import Interval, paired_t, proportion_interval
from hw1.folds.table import FoldTable
from hw1.plots.folds import Accuracy, plot_folds
from hw1.plots.style import Figure
from hw1.runs.folder import RunFolder


class CrossValidated(NamedTuple):
    """The accuracy over all images.

    Attributes:
        num_images: Images with a prediction.
        num_right: Those whose prediction is their label.
        low: Lower end of Wilson's 95% interval, 0-1.
        high: Upper end.
        per_fold: Accuracy of each fold, 0-1.
        over_folds: Mean over folds with its 95% t interval, cut at 0 and 1.
    """

    num_images: int
    num_right: int
    low: float
    high: float
    per_fold: list[float]
    over_folds: Interval


def join_predictions(table: FoldTable, runs: Sequence[RunFolder]) -> SavedPredictions:
    """Join the last epoch's validation predictions of every fold, in the order of the table.

    The last epoch's, not the best one's: the best was chosen by these very images.

    Args:
        table: The images.
        runs: The run of each fold.

    Raises:
        UserError: Predictions are missing, or are not of the images of their fold.
    """
    place = {file: row for row, file in enumerate(table.images.files)}
    found: dict[int, tuple[np.ndarray, int]] = {}
    names: list[str] = []
    for fold, run in enumerate(runs):
        saved = load_predictions(run.val_predictions)
        names = names or saved.class_names
        rows = [place.get(file, -1) for file in saved.files]
        if saved.class_names != names or any(row < 0 or table.folds[row] != fold for row in rows):
            raise UserError(f"{run.val_predictions}: not of the images and classes of fold {fold}; was the run made by hand?")
        found |= dict(zip(rows, zip(saved.predictions.logits, saved.predictions.labels.tolist(), strict=True), strict=True))
    order = sorted(found)
    logits = np.stack([found[row][0] for row in order])
    labels = np.array([found[row][1] for row in order], np.int64)
    return SavedPredictions(Predictions(np.array(order, np.int64), logits, labels), [table.images.files[row] for row in order], names)


def cross_validate(table: FoldTable, joined: SavedPredictions) -> CrossValidated:
    """Compute the accuracy over all images and over folds.

    Wilson's interval covers which images were drawn, for models trained on (k - 1) / k of them. The one over folds covers that and the
    training too, but takes folds as independent, though any two share most of their training images: take it as rough.
    """
    predictions = joined.predictions
    is_right = predictions.logits.argmax(axis=1) == predictions.labels
    folds = np.asarray(table.folds)[predictions.index]
    per_fold = [float(is_right[folds == fold].mean()) for fold in range(table.k)]
    low, high = proportion_interval(int(is_right.sum()), len(is_right))
    over_folds = paired_t(per_fold)
    ends = (None if end is None else min(max(end, 0.0), 1.0) for end in (over_folds.low, over_folds.high))
    return CrossValidated(len(is_right), int(is_right.sum()), low, high, per_fold, Interval(over_folds.mean, *ends))


def describe_accuracy(result: CrossValidated) -> list[str]:
    """Return the accuracy in words, a line each for all images and for the folds."""
    top1 = result.num_right / result.num_images
    folds, spread = result.over_folds, ""
    if folds.low is not None and folds.high is not None:
        spread = f" (95% t interval {folds.low:.4f} to {folds.high:.4f}, rough)"
    return [
        f"top-1 {top1:.4f} (95% {result.low:.4f} to {result.high:.4f}) on {result.num_images:,} images, each by a run that never saw it",
        f"by fold: {', '.join(f'{accuracy:.4f}' for accuracy in result.per_fold)}; mean {folds.mean:.4f}{spread}",
    ]


def plot_accuracy(table: FoldTable, joined: SavedPredictions) -> Figure:
    """Plot the accuracy of each fold and of all images, with Wilson's intervals."""
    is_right = joined.predictions.logits.argmax(axis=1) == joined.predictions.labels
    folds = np.asarray(table.folds)[joined.predictions.index]

    def accuracy(of: np.ndarray) -> Accuracy:
        return Accuracy(float(of.mean()), *proportion_interval(int(of.sum()), len(of)), len(of))

    return plot_folds([accuracy(is_right[folds == fold]) for fold in range(table.k)], accuracy(is_right))
