"""The part of the data audit that costs a start of training nothing: equal files in training and validation, classes without validation.

No image is decoded, and only files of one size in both splits are opened; `python -m hw1.audit` looks at everything.
"""

import hashlib
import os
import shlex
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from hw1.data.image_set import ImageSet, TrainingData
from hw1.utils.text import printable

PROBE = 4096  # bytes from the middle of a file: the beginning may be a camera's or a program's own
MAX_PROBES = 16_384  # files, 64 MB
NUM_NAMED = 2


def describe_faults(data: TrainingData) -> str:
    """One line for the user, with the command that tells more of a folder; "" if nothing was found."""
    faults = []
    if copies := find_equal_files(data):
        named = "; ".join(f"{printable(data.val.files[b])} is {printable(data.train.files[a])}" for a, b in copies[:NUM_NAMED])
        faults.append(f"{len(copies)} of {len(data.val)} validation images are in training too ({named}{_more(len(copies))})")
    if missing := find_missing_classes(data):
        named = ", ".join(map(printable, missing[:NUM_NAMED])) + _more(len(missing))
        faults.append(f"{len(missing)} classes have no validation image ({named})")
    if not faults:
        return ""
    more = f"; python -m hw1.audit {shlex.quote(printable(data.train.root))} shows all" if data.train.dataset is None else ""
    return f"warning: {', and '.join(faults)}{more}"


def find_equal_files(data: TrainingData) -> list[tuple[int, int]]:
    """(training, validation) index of files with the same bytes, one for each validation file, in its order.

    Sizes come first, then `PROBE` bytes of at most `MAX_PROBES` files, rarest sizes first, then all bytes of those that agree.
    """
    by_size: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    wanted = set(data.sizes[1]) - {-1, 0}
    for which, sizes in enumerate(data.sizes):
        for index, size in enumerate(sizes):
            if size in wanted:
                by_size[size][which].append(index)
    groups = sorted(((a, b) for a, b in by_size.values() if a), key=lambda group: len(group[0]) + len(group[1]))
    found, num_probes = [], 0
    for train, val in groups:
        num_probes += len(train) + len(val)
        if num_probes > MAX_PROBES:
            break
        found += list(_equal(data, train, val, PROBE))
    return sorted(found, key=lambda pair: pair[1])


def find_missing_classes(data: TrainingData) -> list[str]:
    """Names of the classes with training images and no validation image."""
    assert data.train.labels is not None
    assert data.val.labels is not None
    return [data.classes.names[label] for label in np.setdiff1d(data.train.labels, data.val.labels)]


def _equal(data: TrainingData, train: list[int], val: list[int], num_bytes: int | None) -> Iterator[tuple[int, int]]:
    """Pairs of equal files, all of one size: those that agree in `num_bytes` from the middle are compared whole (None)."""
    alike: dict[bytes, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for which, (images, indices) in enumerate(((data.train, train), (data.val, val))):
        for index in indices:
            alike[_digest(images, index, num_bytes)][which].append(index)
    alike.pop(b"", None)
    for a, b in alike.values():
        if a and b and num_bytes is not None:
            yield from _equal(data, a, b, None)
        elif a:
            yield from ((a[0], index) for index in b)


def _digest(images: ImageSet, index: int, num_bytes: int | None) -> bytes:
    """BLAKE2b of a file, or of `num_bytes` from its middle; b"" where it cannot be read."""
    try:
        with images.image_file(index).open("rb") as file:
            if num_bytes is None:
                return hashlib.file_digest(file, "blake2b").digest()
            file.seek(max(0, file.seek(0, os.SEEK_END) // 2 - num_bytes // 2))
            return hashlib.blake2b(file.read(num_bytes)).digest()
    except OSError:
        return b""


def _more(count: int) -> str:
    return ", ..." * (count > NUM_NAMED)
