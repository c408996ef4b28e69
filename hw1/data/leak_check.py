"""Check the data at the start of a training: equal files in training and validation, classes without a validation image.

The check costs nothing, as the fingerprint of the data has digests of all files. `hw1 audit` finds near copies too.
"""

import shlex

import numpy as np

from hw1.data.content_digests import EMPTY
from hw1.data.image_set import TrainingData
from hw1.utils.own_command import hw1_command
from hw1.utils.text import printable

NUM_NAMED = 2


def describe_faults(data: TrainingData, *, is_held_out: bool = False, labels: str | None = None) -> str:
    """Describe all problems in one line, with the command that shows more of a folder; return "" if there is none.

    Args:
        data: The data.
        is_held_out: Whether validation was held out of training (`data.val_fraction`), image by image: it has none of a class of one.
        labels: The file that lists the images (`data.labels`); None for folders.
    """
    faults = []
    if copies := find_equal_files(data):
        named = "; ".join(f"{printable(data.val.files[b])} is {printable(data.train.files[a])}" for a, b in copies[:NUM_NAMED])
        faults.append(f"{len(copies)} of {len(data.val)} validation images are in training too ({named}{_ellipsis(len(copies))})")
    if missing := find_missing_classes(data):
        named = ", ".join(map(printable, missing[:NUM_NAMED])) + _ellipsis(len(missing))
        what = "one image, which stays in training" if is_held_out else "no validation image"
        faults.append(f"{len(missing)} {'class has' if len(missing) == 1 else 'classes have'} {what} ({named})")
    if not faults:
        return ""
    listed = f" --labels {shlex.quote(printable(labels))}" if labels else ""
    more = f"; {hw1_command()} audit {shlex.quote(printable(data.train.root))}{listed} shows all" if data.train.dataset is None else ""
    return f"warning: {', and '.join(faults)}{more}"


def find_equal_files(data: TrainingData) -> list[tuple[int, int]]:
    """Find validation files that have the same bytes as a training file; empty ones are no copies.

    Returns:
        (training index, validation index), one for each such validation file, in the order of validation.
    """
    train, val = data.digests
    first = {digest: index for index, digest in reversed(list(enumerate(train))) if digest not in ("", EMPTY)}
    return [(first[digest], index) for index, digest in enumerate(val) if digest in first]


def find_missing_classes(data: TrainingData) -> list[str]:
    """Return the names of the classes that have training images and no validation image."""
    assert data.train.labels is not None
    assert data.val.labels is not None
    return [data.classes.names[label] for label in np.setdiff1d(data.train.labels, data.val.labels)]


def _ellipsis(count: int) -> str:
    return ", ..." * (count > NUM_NAMED)
