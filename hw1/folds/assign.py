"""Draw the fold of each image: each class spread evenly, no group in two folds. No torch, no files."""

import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from hw1.errors import UserError
from hw1.utils.text import counted, printable


def assign_folds(labels: Sequence[str], groups: Sequence[str], k: int, seed: int) -> NDArray[np.int64]:
    """Draw the fold of each image, int64 [N] of 0 to k - 1.

    Args:
        labels: Class of each image, [N].
        groups: Group of each image, [N]; an image with "" is a group of its own.
        k: Number of folds, at least 2.
        seed: Of the draw.

    Raises:
        UserError: There are fewer groups than folds, or a class lies in one fold alone, so that no run could both learn and predict it.
    """
    names = [group or f"\0{index}" for index, group in enumerate(groups)]  # no name of a group has a null character
    _, numbers = np.unique(names, return_inverse=True)
    if numbers.max() + 1 < k:
        raise UserError(f"--k {k}: there are only {counted(int(numbers.max()) + 1, 'group')} of images")
    folds = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds, of which the check below says more
        try:
            splits = list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(np.zeros(len(labels)), list(labels), numbers))
        except ValueError:
            raise UserError(f"--k {k}: no class has as many images; a smaller number is possible") from None
    for fold, (_, members) in enumerate(splits):
        folds[members] = fold
    _require_learnable(labels, folds)
    return folds


def _require_learnable(labels: Sequence[str], folds: NDArray[np.int64]) -> None:
    folds_of: dict[str, set[int]] = defaultdict(set)
    for label, fold in zip(labels, folds.tolist(), strict=True):
        folds_of[label].add(fold)
    problems = [
        f"class {printable(label)}: all its images lie in one fold, as they are one image or one group; none would be left to learn from"
        for label, found in folds_of.items()
        if len(found) == 1
    ]
    if problems:
        raise UserError(*problems)
