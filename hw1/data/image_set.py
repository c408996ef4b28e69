"""Define a split: file names, labels, classes, and where the encoded images are. No torch; no image is decoded here."""

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
from numpy.typing import NDArray

from hw1.data.content_digests import digest_contents
from hw1.data.verified_files import Stamp, take_stamp
from hw1.utils.text import to_bytes


@dataclass(frozen=True)
class ClassMap:
    """The classes of a data set; `names[label]` is the name of the class folder, or the public data set's name of the class.

    An integer label that no image has is named "".
    """

    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of labels, including those that no image has."""
        return len(self.names)

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label by name."""
        return {name: label for label, name in enumerate(self.names) if name}


class Archive(Protocol):
    """Encoded images that are not files of their own, by name. Many threads and processes read it at once."""

    def read(self, name: str) -> bytes:
        """Return the encoded image.

        Raises:
            OSError: It can no longer be read.
        """
        ...

    def stamp(self, name: str) -> Stamp | None:
        """Return its size in bytes and the archive's last change (or another value that changes with it); None if it does not exist."""
        ...

    def location(self, name: str) -> str:
        """Return the absolute path of the file that holds it, followed by its name there: for messages, and to remember it by."""
        ...


@dataclass(frozen=True)
class Member:
    """One image of an archive, with the methods of a Path that reading an image needs."""

    archive: Archive
    name: str

    def read_bytes(self) -> bytes:
        """Return the encoded image."""
        return self.archive.read(self.name)

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """Open the encoded image for reading."""
        return io.BytesIO(self.read_bytes())

    def __str__(self) -> str:
        return self.archive.location(self.name)


ImageFile = Path | Member


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split, in the order of `files`."""

    root: Path
    files: tuple[str, ...]
    """POSIX paths relative to `root`; names of the same form in an archive."""
    labels: NDArray[np.int64] | None
    """int64 [N]; None for an unlabelled set."""
    num_stray: int
    """Number of files and folders that were passed over because they are no images, or of samples without an image or a label."""
    archive: Archive | None = None
    """Where the images are; None if they are files."""
    dataset: str | None = None
    """timm's name of the public data set that this is a split of; None for folders."""
    strays: tuple[str, ...] = ()
    """What `num_stray` counts in folders, as POSIX paths relative to `root`."""

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Return the path of image `index`, of a set without an archive."""
        return self.root / self.files[index]

    def image_file(self, index: int) -> ImageFile:
        """Return the file or member that image `index` is read from."""
        return self.path(index) if self.archive is None else Member(self.archive, self.files[index])

    def location(self, file: str) -> str:
        """Return the absolute path of one of `files`."""
        return os.path.join(self._absolute_root, file) if self.archive is None else self.archive.location(file)

    def stamp(self, file: str) -> Stamp | None:
        """Return a stamp that differs when the content does, with the size in bytes first; None for a file that does not exist."""
        return take_stamp(self.location(file)) if self.archive is None else self.archive.stamp(file)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """Return the images at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[np.asarray(indices, dtype=np.int64)]
        return replace(self, files=tuple(self.files[i] for i in indices), labels=labels)

    def labelled(self) -> "ImageSet":
        """Leave out the images whose label is -1, as strays; if no image has a label, return the set as an unlabelled one."""
        if self.labels is None or not (self.labels < 0).any():
            return self
        labelled = np.flatnonzero(self.labels >= 0)
        if not len(labelled):
            return replace(self, labels=None)
        return replace(self.subset(labelled), num_stray=self.num_stray + len(self) - len(labelled))

    @cached_property
    def _absolute_root(self) -> str:
        return os.path.abspath(self.root)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The labelled images to train and to validate with, and their classes."""

    train: ImageSet
    val: ImageSet
    classes: ClassMap

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the class names and of every image's relative name, content and label; it does not depend on `root`."""
        return self._hash(self.digests)

    @property
    def fingerprint_without_content(self) -> str:
        """The same of sizes in place of contents, as runs begun before contents counted have it."""
        return self._hash([[(images.stamp(file) or [-1])[0] for file in images.files] for images in (self.train, self.val)])

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Return whether a fingerprint is that of these data, also one without content."""
        return fingerprint == self.fingerprint or fingerprint == self.fingerprint_without_content

    @cached_property
    def digests(self) -> list[list[str]]:
        """Digest of every training and every validation image (see `digest_contents`); all files are read where they are not known."""
        images = [(split, index) for split in (self.train, self.val) for index in range(len(split))]
        locations = [split.location(split.files[index]) for split, index in images]
        stamps = [split.stamp(split.files[index]) for split, index in images]
        digests = digest_contents(locations, stamps, lambda position: _read(*images[position]))
        return [digests[: len(self.train)], digests[len(self.train) :]]

    def _hash(self, contents: Sequence[Sequence[str | int]]) -> str:
        digest = hashlib.sha256()
        for name in self.classes.names:
            digest.update(to_bytes(name) + b"\0")
        for images, split_contents in zip((self.train, self.val), contents, strict=True):
            assert images.labels is not None
            digest.update(b"\0%d\0" % len(images))
            for file, content, label in zip(images.files, split_contents, images.labels, strict=True):
                digest.update(b"%s\0%s\0%d\0" % (to_bytes(file), str(content).encode(), label))
        return digest.hexdigest()


def _read(images: ImageSet, index: int) -> bytes:
    return images.image_file(index).read_bytes()


def number_classes(names: list[str], num_classes: int | None, problems: list[str]) -> ClassMap:
    """Assign a label to each class folder.

    If all names are integers, each label is the folder's own integer, and there are max + 1 classes, or `num_classes` if that is more.
    Integers too sparse for that (max + 1 above both 2 * folders + 10 and `num_classes`) are numbered as other names are: by their order.

    Args:
        names: Names of the class folders, in natural order.
        num_classes: Number of classes that the recipe states, None if it states none.
        problems: What does not fit is appended here, a line each.
    """
    if all(re.fullmatch("[0-9]{1,18}", name) for name in names):
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


def draw_held_out(num: int, fraction: float, seed: int, name: str) -> set[int]:
    """Draw which of a class's images are held out for validation.

    The draw depends on (seed, name) only, so that adding a class leaves the split of the others as it is.

    Args:
        num: Number of images of the class.
        fraction: Fraction to hold out, 0-1. At least one image is, of a class of two or more, and never all.
        seed: The run's seed.
        name: Name of the class.

    Returns:
        Their positions, 0 to `num` - 1.
    """
    word = int.from_bytes(hashlib.sha256(to_bytes(name)).digest()[:8], "big")
    count = min(max(round(fraction * num), 1), max(num - 1, 0))
    return set(np.random.default_rng([seed, word]).permutation(num)[:count].tolist())
