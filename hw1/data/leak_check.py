"""Check the data at the start of a training: equal files in training and validation, classes without a validation image.

The check costs next to nothing: no image is decoded, and only files of one size in both splits are opened. `python -m hw1.audit` checks
everything.
"""

import hashlib
import os
import shlex
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from hw1.data.image_set import ImageSet, TrainingData
from hw1.utils.text import printable

PROBE_BYTES = 4096
"""Read from the middle of a file: the beginning may be a camera's or a program's own."""
MAX_PROBES = 16_384
"""Files that are opened at most: 64 MB are read."""
NUM_NAMED = 2
TrainAndVal = tuple[list[int], list[int]]
"""Indices of training and of validation images."""


def describe_faults(data: TrainingData) -> str:
    """Describe all problems in one line, with the command that shows more of a folder; return "" if there is none."""
    faults = []
    if copies := find_equal_files(data):
        named = "; ".join(f"{printable(data.val.files[b])} is {printable(data.train.files[a])}" for a, b in copies[:NUM_NAMED])
        faults.append(f"{len(copies)} of {len(data.val)} validation images are in training too ({named}{_ellipsis(len(copies))})")
    if missing := find_missing_classes(data):
        named = ", ".join(map(printable, missing[:NUM_NAMED])) + _ellipsis(len(missing))
        faults.append(f"{len(missing)} classes have no validation image ({named})")
    if not faults:
        return ""
    more = f"; python -m hw1.audit {shlex.quote(printable(data.train.root))} shows all" if data.train.dataset is None else ""
    return f"warning: {', and '.join(faults)}{more}"


def find_equal_files(data: TrainingData) -> list[tuple[int, int]]:
    """Find validation files that have the same bytes as a training file.

    Sizes are compared first, then `PROBE_BYTES` bytes of at most `MAX_PROBES` files, rarest sizes first, then all bytes of those that
    agree.

    Returns:
        (training index, validation index), one for each such validation file, in the order of validation.
    """
    by_size: dict[int, TrainAndVal] = defaultdict(lambda: ([], []))
    val_sizes = set(data.sizes[1]) - {-1, 0}
    for split, sizes in enumerate(data.sizes):
        for index, size in enumerate(sizes):
            if size in val_sizes:
                by_size[size][split].append(index)
    candidates = sorted(((a, b) for a, b in by_size.values() if a), key=lambda group: len(group[0]) + len(group[1]))
    copies, num_probes = [], 0
    for train, val in candidates:
        num_probes += len(train) + len(val)
        if num_probes > MAX_PROBES:
            break
        copies += list(_find_equal(data, train, val, PROBE_BYTES))
    return sorted(copies, key=lambda pair: pair[1])


def find_missing_classes(data: TrainingData) -> list[str]:
    """Return the names of the classes that have training images and no validation image."""
    assert data.train.labels is not None
    assert data.val.labels is not None
    return [data.classes.names[label] for label in np.setdiff1d(data.train.labels, data.val.labels)]


def _find_equal(data: TrainingData, train: list[int], val: list[int], num_bytes: int | None) -> Iterator[tuple[int, int]]:
    """Yield pairs of equal files among files of one size.

    Args:
        data: The images.
        train: Indices of training images.
        val: Indices of validation images.
        num_bytes: Compare this many bytes from the middle first, then the whole files that agree in them; None: whole files at once.
    """
    by_digest: dict[bytes, TrainAndVal] = defaultdict(lambda: ([], []))
    for split, (images, indices) in enumerate(((data.train, train), (data.val, val))):
        for index in indices:
            by_digest[_digest(images, index, num_bytes)][split].append(index)
    by_digest.pop(b"", None)
    for a, b in by_digest.values():
        if a and b and num_bytes is not None:
            yield from _find_equal(data, a, b, None)
        elif a:
            yield from ((a[0], index) for index in b)


def _digest(images: ImageSet, index: int, num_bytes: int | None) -> bytes:
    """Return the BLAKE2b digest of a file, or of `num_bytes` from its middle; b"" if it cannot be read."""
    try:
        with images.image_file(index).open("rb") as file:
            if num_bytes is None:
                return hashlib.file_digest(file, "blake2b").digest()
            file.seek(max(0, file.seek(0, os.SEEK_END) // 2 - num_bytes // 2))
            return hashlib.blake2b(file.read(num_bytes)).digest()
    except OSError:
        return b""


def _ellipsis(count: int) -> str:
    return ", ..." * (count > NUM_NAMED)
