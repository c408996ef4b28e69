"""What a split is: names, labels, classes, and where its encoded images lie. No torch; no image is opened here."""

import hashlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from hw1.data.verified_files import Stamp, take_stamp


@dataclass(frozen=True)
class ClassMap:
    """`names[label]` is the class folder's own name, or the set's for the class; "" for an integer label that no image has."""

    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @cached_property
    def labels(self) -> dict[str, int]:
        """Name -> label."""
        return {name: label for label, name in enumerate(self.names) if name}


class Archive(Protocol):
    """Encoded images that are no files of their own, by name. It is read by many threads and processes at once."""

    def read(self, name: str) -> bytes:
        """The encoded image. Raises OSError where it cannot be read any more."""
        ...

    def stamp(self, name: str) -> Stamp | None:
        """Its size in bytes and the time of the archive's last change, or what else changes with it; None where it is not there."""
        ...

    def place(self, name: str) -> str:
        """Absolute path of the file that holds it, and its name there: for messages, and for what is remembered of it."""
        ...


@dataclass(frozen=True)
class Member:
    """One image of an archive, in place of a Path."""

    archive: Archive
    name: str

    def read_bytes(self) -> bytes:
        return self.archive.read(self.name)

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def __str__(self) -> str:
        return self.archive.place(self.name)


ImageFile = Path | Member


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split, in the order of `files`; `labels` int64 [N], or None (unlabelled)."""

    root: Path
    files: tuple[str, ...]
    """Posix paths relative to `root`, or, of an archive, names that look like them."""
    labels: np.ndarray | None
    num_stray: int
    """Files and folders that were passed over because they are no images, or samples without an image or a label."""
    archive: Archive | None = None
    """Where the images are; None: they are files."""
    dataset: str | None = None
    """timm's name of the public data set that this is a split of; None: folders."""

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Only where there is no archive."""
        return self.root / self.files[index]

    def image_file(self, index: int) -> ImageFile:
        """What image `index` is read from."""
        return self.path(index) if self.archive is None else Member(self.archive, self.files[index])

    def place(self, file: str) -> str:
        """Where one of `files` lies: an absolute path."""
        return os.path.join(self._absolute, file) if self.archive is None else self.archive.place(file)

    def stamp(self, file: str) -> Stamp | None:
        """Size in bytes first; equal stamps, equal content. None for what is not there (any more)."""
        return take_stamp(self.place(file)) if self.archive is None else self.archive.stamp(file)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The images at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[np.asarray(indices, dtype=np.int64)]
        return replace(self, files=tuple(self.files[i] for i in indices), labels=labels)

    def labelled(self) -> "ImageSet":
        """Without the samples that have no label (-1), which become strays; but an unlabelled set where none has one."""
        if self.labels is None or not (self.labels < 0).any():
            return self
        kept = np.flatnonzero(self.labels >= 0)
        if not len(kept):
            return replace(self, labels=None)
        return replace(self.subset(kept), num_stray=self.num_stray + len(self) - len(kept))

    @cached_property
    def _absolute(self) -> str:
        return os.path.abspath(self.root)


@dataclass(frozen=True, eq=False)
class TrainingData:
    train: ImageSet
    val: ImageSet
    classes: ClassMap

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the class names and of every file's relative name, size and label; the same wherever the folder lies."""
        digest = hashlib.sha256()
        for name in self.classes.names:
            digest.update(name_bytes(name) + b"\0")
        for images, sizes in zip((self.train, self.val), self.sizes, strict=True):
            assert images.labels is not None
            digest.update(b"\0%d\0" % len(images))
            for file, size, label in zip(images.files, sizes, images.labels, strict=True):
                digest.update(b"%s\0%d\0%d\0" % (name_bytes(file), size, label))
        return digest.hexdigest()

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Bytes of every training and every validation image; -1 of one that is not there, which is reported when images are checked."""
        train, val = ([(images.stamp(file) or [-1])[0] for file in images.files] for images in (self.train, self.val))
        return train, val


def number_classes(names: list[str], num_classes: int | None, problems: list[str]) -> ClassMap:
    """Class map of the class folders' names, which are in natural order; appends to `problems` what does not fit.

    Where all are integers a label is the name's own integer, and there are max+1 classes, or `num_classes` if larger. Integers too sparse
    for that (max+1 above both 2 * names + 10 and `num_classes`) count as names.
    """
    if all(re.fullmatch("[0-9]+", name) for name in names):
        by_number = {int(name): name for name in names}
        problems += [f"data.root: class folders {a} and {b} are the same integer" for a, b in pairwise(names) if int(a) == int(b)]
        needed = max(by_number) + 1
        if needed <= max(2 * len(names) + 10, num_classes or 0):
            if num_classes is not None and num_classes < needed:
                problems.append(f"model.num_classes: the class {names[-1]} needs at least {needed}, got {num_classes}")
            return ClassMap(tuple(by_number.get(label, "") for label in range(max(needed, num_classes or 0))))
    if num_classes is not None and num_classes != len(names):
        problems.append(f"model.num_classes: the data has {len(names)} classes, got {num_classes}")
    return ClassMap(tuple(names))


def held_out(num: int, fraction: float, seed: int, name: str) -> set[int]:
    """Which of a class's `num` images become validation: `fraction` of them, at least one where it has two, never all.

    Drawn for each class by (seed, its name), so that adding a class leaves the split of the others as it is.
    """
    word = int.from_bytes(hashlib.sha256(name_bytes(name)).digest()[:8], "big")
    count = min(max(round(fraction * num), 1), max(num - 1, 0))
    return set(np.random.default_rng([seed, word]).permutation(num)[:count].tolist())


def name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")  # file names need not be valid UTF-8
