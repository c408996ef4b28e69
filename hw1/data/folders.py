"""Folders of pictures -> training, validation and unlabelled sets with labels. No torch; no picture is opened here.

Layouts: `root/train/<class>/...` with `root/val/<class>/...`; or class folders in `root/train` or in `root` itself, of which
`data.val_fraction` becomes the validation split. `root/test` is never read for training.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from hw1.config import DataConfig
from hw1.data.listing import ClassFolders, list_class_folders, list_flat_images, list_folders, printable, require_folder
from hw1.errors import UserError

SPLIT_NAMES = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


@dataclass(frozen=True)
class ClassMap:
    """`names[label]` is the class folder's own name; "" for an integer label that no folder has."""

    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @cached_property
    def labels(self) -> dict[str, int]:
        """Folder name -> label."""
        return {name: label for label, name in enumerate(self.names) if name}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split: `files` are posix paths relative to `root`, in natural order; `labels` int64 [N], or None (unlabelled)."""

    root: Path
    files: tuple[str, ...]
    labels: np.ndarray | None
    num_stray: int
    """Files and folders that were passed over because they are no images."""

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        return self.root / self.files[index]

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The images at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[np.asarray(indices, dtype=np.int64)]
        return replace(self, files=tuple(self.files[i] for i in indices), labels=labels)


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
            digest.update(_name_bytes(name) + b"\0")
        for images, sizes in zip((self.train, self.val), self.sizes, strict=True):
            assert images.labels is not None
            digest.update(b"\0%d\0" % len(images))
            for file, size, label in zip(images.files, sizes, images.labels, strict=True):
                digest.update(b"%s\0%d\0%d\0" % (_name_bytes(file), size, label))
        return digest.hexdigest()

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Bytes of every training and every validation file; -1 of one that is not there."""
        train, val = ([_size(images.path(index)) for index in range(len(images))] for images in (self.train, self.val))
        return train, val


def open_training_data(config: DataConfig, seed: int, num_classes: int | None) -> TrainingData:
    """Lists the training and validation images of `config.root`.

    Where all class folders are integers the label is the folder's own integer, and there are max+1 classes, or `num_classes` if larger.
    Integers too sparse for that (max+1 above both 2 * folders + 10 and `num_classes`) count as names. Names are numbered in natural order.

    Raises UserError, with every problem found: a missing, empty or ambiguous folder, a validation class that training lacks,
    a training class without images, a `num_classes` that does not fit.
    """
    root = _require_root(config.root)
    problems: list[str] = []
    train, val = _list_splits(root, config, seed, problems)
    if not any(train.files.values()):
        raise UserError(f"data.root: {printable(train.folder)}: no images in class folders")
    if len(train.files) == 1:
        problems.append(f"data.root: {printable(train.folder)}: only one class folder, {printable(*train.files)}; two are needed")
    empty = [train.folder / name for name, files in train.files.items() if not files]
    problems += [f"data.root: {printable(folder)}: class folder without images" for folder in empty]
    unknown = [val.folder / name for name, files in val.files.items() if files and name not in train.files]
    problems += [f"data.root: {printable(folder)}: class unknown to training, not in {printable(train.folder)}" for folder in unknown]
    if not problems and not any(val.files.values()):
        problems.append(f"data.root: {printable(val.folder)}: no images for validation")
    classes = _number_classes(list(train.files), num_classes, problems)
    if problems:
        raise UserError(*problems)
    return TrainingData(_label(root, train, classes), _label(root, val, classes), classes)


def open_split(root: Path, split: str, classes: ClassMap, config: DataConfig, seed: int) -> ImageSet:
    """The labelled images of a split, with the class map of a checkpoint. "train" and "val" are those of `open_training_data`, the split
    by `config.val_fraction` and `seed` included; any other name is a folder of class folders in `root` (`config.root` is not used).

    Raises UserError for a missing or empty folder and for class folders that the map lacks.
    """
    root = _require_root(str(root))
    problems: list[str] = []
    if split in ("train", "val"):
        train, val = _list_splits(root, config, seed, problems)
        listing = train if split == "train" else val
    else:
        listing = list_class_folders(root, split)
    if not problems and not any(listing.files.values()):
        problems.append(f"data.root: {printable(listing.folder)}: no images in class folders")
    unknown = [listing.folder / name for name, files in listing.files.items() if files and name not in classes.labels]
    problems += [f"data.root: {printable(folder)}: class unknown to the checkpoint" for folder in unknown]
    if problems:
        raise UserError(*problems)
    return _label(root, listing, classes)


def open_unlabelled(folder: Path) -> ImageSet:
    """The images that lie in `folder` itself, unlabelled. Raises UserError if there are none; subfolders are passed over, as strays."""
    folder = folder.expanduser()
    require_folder(folder, "")
    files, num_stray = list_flat_images(folder)
    if not files:
        folders = list_folders(folder)
        shown = ", ".join(map(printable, folders[:3])) + ", ..." * (len(folders) > 3)
        found = f"no images, only folders ({shown})" if folders else "no images"
        raise UserError(f"{printable(folder)}: {found}; unlabelled pictures are expected in the folder itself")
    return ImageSet(folder, tuple(files), None, num_stray)


def _require_root(root: str | None) -> Path:
    if root is None:
        raise UserError("data.root: not set; add data.root=FOLDER (with train/ and val/, or class folders and data.val_fraction)")
    path = Path(root).expanduser()
    require_folder(path, "data.root: ")
    return path


def _list_splits(root: Path, config: DataConfig, seed: int, problems: list[str]) -> tuple[ClassFolders, ClassFolders]:
    """Training and validation listing; appends to `problems` what is wrong with the layout."""
    has_train, has_val = (os.path.isdir(root / split) for split in ("train", "val"))
    if not has_train:
        _require_classes_not_splits(root)
    train = list_class_folders(root, "train" if has_train else "")
    if has_val:
        if config.val_fraction is not None:
            problems.append(f"data.val_fraction: {printable(root)} has its own val/; leave it null, or take val/ away")
        return train, list_class_folders(root, "val")
    if config.val_fraction is None:
        other = [f" (or rename {name}/ to val/)" for name in list_folders(root) if name.lower() in ("valid", "validation")]
        problems.append(f"data.val_fraction: not set, but {printable(root)} has no val/; set data.val_fraction=0.1{''.join(other)}")
        return train, ClassFolders(train.folder, {}, 0)
    return _split(train, config.val_fraction, seed)


def _require_classes_not_splits(root: Path) -> None:
    """Raises UserError where the folders in `root` look like splits or like whole data sets: they would silently become classes."""
    for name in list_folders(root):
        if name.lower() in SPLIT_NAMES:
            raise UserError(f"data.root: {printable(root)}: has {name}/ but no train/; the splits are named train, val and test")
        if os.path.isdir(root / name / "train") and os.path.isdir(root / name / "val"):
            raise UserError(f"data.root: {printable(root)}: has no train/ and val/; did you mean {printable(root / name)}?")


def _split(listing: ClassFolders, fraction: float, seed: int) -> tuple[ClassFolders, ClassFolders]:
    """Takes `fraction` of each class for validation: at least one image where a class has two, never all.

    Drawn for each class by (seed, its name), so that adding a class leaves the split of the others as it is.
    """
    train, val = {}, {}
    for name, files in listing.files.items():
        word = int.from_bytes(hashlib.sha256(_name_bytes(name)).digest()[:8], "big")
        count = min(max(round(fraction * len(files)), 1), max(len(files) - 1, 0))
        chosen = set(np.random.default_rng([seed, word]).permutation(len(files))[:count].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in chosen]
        val[name] = [file for i, file in enumerate(files) if i in chosen]
    return replace(listing, files=train), replace(listing, files=val, num_stray=0)


def _number_classes(names: list[str], num_classes: int | None, problems: list[str]) -> ClassMap:
    """Class map of the folder names, which are in natural order; appends to `problems` what does not fit."""
    if all(re.fullmatch("[0-9]+", name) for name in names):
        by_number = {int(name): name for name in names}
        problems += [f"data.root: class folders {a} and {b} are the same integer" for a, b in pairwise(names) if int(a) == int(b)]
        needed = max(by_number) + 1
        if needed <= max(2 * len(names) + 10, num_classes or 0):
            if num_classes is not None and num_classes < needed:
                problems.append(f"model.num_classes: the class folder {names[-1]} needs at least {needed}, got {num_classes}")
            return ClassMap(tuple(by_number.get(label, "") for label in range(max(needed, num_classes or 0))))
    if num_classes is not None and num_classes != len(names):
        problems.append(f"model.num_classes: the data has {len(names)} classes, got {num_classes}")
    return ClassMap(tuple(names))


def _label(root: Path, listing: ClassFolders, classes: ClassMap) -> ImageSet:
    """Joins the classes into one set; an empty folder needs no label."""
    files, labels = [], []
    for name, found in listing.files.items():
        files += found
        labels += [classes.labels[name] for _ in found]
    return ImageSet(root, tuple(files), np.array(labels, dtype=np.int64), listing.num_stray)


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")  # file names need not be valid UTF-8


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # a dangling link: reported when the images are checked
