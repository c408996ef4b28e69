"""Open folders of images as labelled training and validation sets or as unlabelled sets. No torch; no image is decoded here.

Layouts: `root/train/<class>/...` with `root/val/<class>/...`; or class folders in `root/train` or in `root` itself, of which
`data.val_fraction` becomes the validation split (`hw1.data.flat_folder` where it is null). `root/test` is never read for training. If
`data.dataset` is set, `hw1.data.public_datasets` reads the splits instead; if `data.labels` is, `hw1.data.listed_images` does.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from hw1.config.recipe import DataConfig
from hw1.data.alike_names import hint_alike
from hw1.data.flat_folder import find_unclear_folder, with_flat_fraction
from hw1.data.folders import require_root
from hw1.data.image_set import ClassMap, ImageSet, TrainingData, draw_held_out, number_classes
from hw1.data.list_files import ClassFolders, list_class_folders, list_flat_images, list_folders, require_folder
from hw1.data.listed_images import open_listed_data, open_listed_split
from hw1.data.public_datasets import open_named_data, open_named_split
from hw1.errors import UserError
from hw1.utils.text import printable, some_of

SPLIT_NAMES = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


def open_training_data(config: DataConfig, seed: int, num_classes: int | None) -> TrainingData:
    """List the training and validation images of `config.root`, or open those of `config.dataset` or `config.labels`.

    Classes are numbered as `number_classes` says: folders named by integers keep their integer, others are numbered in natural order.

    Args:
        config: The recipe's section `data`.
        seed: The run's seed, on which the split by `config.val_fraction` depends.
        num_classes: Number of classes that the recipe states, None if it states none.

    Raises:
        UserError: Has every problem: a missing, empty or ambiguous folder, a validation class that training lacks, a training class
            without images, a `num_classes` that does not fit.
    """
    if config.dataset is not None:
        return open_named_data(config, seed, num_classes)
    if config.labels is not None:
        return open_listed_data(config, seed, num_classes)
    root = require_root(config.root)
    problems: list[str] = []
    train, val = _list_splits(root, config, seed, problems)
    if not any(train.files.values()):
        raise UserError(f"data.root: {printable(train.folder)}: no images in class folders")
    if len(train.files) == 1:
        problems.append(f"data.root: {printable(train.folder)}: only one class folder, {printable(*train.files)}; two are needed")
    empty = [train.folder / name for name, files in train.files.items() if not files]
    problems += [f"data.root: {printable(folder)}: class folder without images" for folder in empty]
    unknown = [name for name, files in val.files.items() if files and name not in train.files]
    problems += [
        f"data.root: {printable(val.folder / name)}: class unknown to training, not in {printable(train.folder)}"
        f"{hint_alike(name, train.files)}"
        for name in unknown
    ]
    if not problems and not any(val.files.values()):
        problems.append(f"data.root: {printable(val.folder)}: no images for validation")
    classes = number_classes(list(train.files), num_classes, problems)
    if problems:
        raise UserError(*problems)
    return TrainingData(_label(root, train, classes), _label(root, val, classes), classes)


def find_split(text: str, config: DataConfig, classes: ClassMap, seed: int) -> tuple[ImageSet, str]:
    """Open the split that `--split` names.

    Args:
        text: "train" or "val", the run's own splits; another split of the run's data (a folder in `config.root`, a split of
            `config.dataset`, or "test" of `config.labels`); or else the path of a folder.
        config: The run's section `data`.
        classes: The class map of the checkpoint.
        seed: The run's seed.

    Returns:
        The images, and a name for their evaluation. A folder without class folders, and a split none of whose samples has a label, are
        unlabelled.

    Raises:
        UserError: A folder has images both in class folders and beside them; or as `open_split`, `open_unlabelled`,
            `open_named_split` and `open_listed_split` do.
    """
    is_folder = text not in ("train", "val", "test") and Path(text).is_dir()
    if config.dataset is not None and not is_folder:
        return open_named_split(config, text, classes, seed), re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if config.labels is not None and not is_folder:
        return open_listed_split(config, text, classes, seed), text
    own_root = Path(config.root or "").expanduser()
    if is_folder or "/" in text:
        folder = Path(text).resolve()
        root, split = folder.parent, folder.name
    else:
        root, split = own_root, text
    labelled = split in ("train", "val") or _is_labelled(root, split)
    images = open_split(root, split, classes, config, seed) if labelled else open_unlabelled(root / split)
    return images, split if root == own_root else f"{root.resolve().name}-{split}"


def open_split(root: Path, split: str, classes: ClassMap, config: DataConfig, seed: int) -> ImageSet:
    """Open the labelled images of a split with the class map of a checkpoint.

    Args:
        root: The data root; `config.root` is not used.
        split: "train" and "val" are those of `open_training_data`, including a split by `config.val_fraction` and `seed`; another name
            is that of a folder of class folders in `root`.
        classes: The class map of the checkpoint.
        config: The run's section `data`.
        seed: The run's seed.

    Raises:
        UserError: A folder is missing or empty, or there are class folders that the map lacks.
    """
    root = require_root(str(root))
    problems: list[str] = []
    if split in ("train", "val"):
        train, val = _list_splits(root, config, seed, problems)
        listing = train if split == "train" else val
    else:
        listing = list_class_folders(root, split)
    if not problems and not any(listing.files.values()):
        problems.append(f"data.root: {printable(listing.folder)}: no images in class folders")
    unknown = [name for name, files in listing.files.items() if files and name not in classes.labels]
    problems += [
        f"data.root: {printable(listing.folder / name)}: class unknown to the checkpoint{hint_alike(name, classes.labels)}"
        for name in unknown
    ]
    if problems:
        raise UserError(*problems)
    return _label(root, listing, classes)


def open_unlabelled(folder: Path) -> ImageSet:
    """Open the images directly in `folder` as an unlabelled set; subfolders are passed over, as strays.

    Raises:
        UserError: There are no such images.
    """
    folder = folder.expanduser()
    require_folder(folder, "")
    files, strays = list_flat_images(folder)
    if not files:
        folders = list_folders(folder)
        shown = ", ".join(map(printable, folders[:3])) + ", ..." * (len(folders) > 3)
        problem = f"no images, only folders ({shown})" if folders else "no images"
        raise UserError(f"{printable(folder)}: {problem}; unlabelled images are expected in the folder itself")
    return ImageSet(folder, tuple(files), None, len(strays), strays=tuple(strays))


def _is_labelled(root: Path, split: str) -> bool:
    """Return whether `root/split` holds class folders rather than images; raise `UserError` where it holds images in both places."""
    folder = root / split
    if not folder.is_dir() or not list_folders(folder):
        return False
    beside, _ = list_flat_images(folder)
    if not beside:
        return True
    classes = [name for name, files in list_class_folders(root, split).files.items() if files]
    if classes:
        raise UserError(
            f"{printable(folder)}: has images both in class folders ({some_of(map(printable, classes), 3)}) and beside them "
            f"({some_of(map(printable, beside), 3)}), so that it is unclear whether they are labelled; move one or the other elsewhere"
        )
    return False


def _list_splits(root: Path, config: DataConfig, seed: int, problems: list[str]) -> tuple[ClassFolders, ClassFolders]:
    """List the training and validation images; append to `problems` what is wrong with the layout."""
    has_train, has_val = (os.path.isdir(root / split) for split in ("train", "val"))
    if not has_train:
        _require_classes_not_splits(root)
    train = list_class_folders(root, "train" if has_train else "")
    if has_val:
        if config.val_fraction is not None:
            problems.append(f"data.val_fraction: {printable(root)} has its own val/; leave it null, or take val/ away")
        return train, list_class_folders(root, "val")
    fraction = with_flat_fraction(config.model_copy(update={"root": str(root)})).val_fraction
    if fraction is None:
        hints = [f" (or rename {name}/ to val/)" for name in list_folders(root) if name.lower() in ("valid", "validation")]
        if not has_train and (unclear := find_unclear_folder(root)):
            hints.append(f" (it is not set by itself here, as {printable(unclear)} may be no class)")
        problems.append(f"data.val_fraction: not set, but {printable(root)} has no val/; set data.val_fraction=0.1{''.join(hints)}")
        return train, ClassFolders(train.folder, {}, [])
    return _hold_out(train, fraction, seed)


def _require_classes_not_splits(root: Path) -> None:
    """Raise an error if the folders in `root` look like splits or like whole data sets: they would silently become classes."""
    for name in list_folders(root):
        if name.lower() in SPLIT_NAMES:
            raise UserError(f"data.root: {printable(root)}: has {name}/ but no train/; the splits are named train, val and test")
        if os.path.isdir(root / name / "train") and os.path.isdir(root / name / "val"):
            raise UserError(f"data.root: {printable(root)}: has no train/ and val/; did you mean {printable(root / name)}?")


def _hold_out(listing: ClassFolders, fraction: float, seed: int) -> tuple[ClassFolders, ClassFolders]:
    """Hold out `fraction` of each class for validation."""
    train, val = {}, {}
    for name, files in listing.files.items():
        held_out = draw_held_out(len(files), fraction, seed, name)
        train[name] = [file for i, file in enumerate(files) if i not in held_out]
        val[name] = [file for i, file in enumerate(files) if i in held_out]
    return replace(listing, files=train), replace(listing, files=val, strays=[])


def _label(root: Path, listing: ClassFolders, classes: ClassMap) -> ImageSet:
    """Join the classes into one set; an empty folder needs no label."""
    files: list[str] = []
    labels: list[int] = []
    for name, class_files in listing.files.items():
        files += class_files
        labels += [classes.labels[name] for _ in class_files]
    return ImageSet(root, tuple(files), np.array(labels, dtype=np.int64), len(listing.strays), strays=tuple(listing.strays))
