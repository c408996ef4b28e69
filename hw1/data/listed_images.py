"""Open the images that `data.labels` lists, a row each, as training, validation and test sets. No torch; no image is decoded here."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw1.config.recipe import FLAT_VAL_FRACTION, NO_COLUMN, DataConfig
from hw1.data.alike_names import alike_key, hint_alike
from hw1.data.folders import require_root
from hw1.data.held_out import draw_groups_held_out
from hw1.data.image_set import ClassMap, ImageSet, TrainingData, draw_held_out, number_classes
from hw1.data.label_columns import Split, read_fold, read_labels, split_words
from hw1.data.list_files import natural_key
from hw1.data.match_files import is_outside, match_files
from hw1.data.table_file import Table, limit
from hw1.errors import UserError
from hw1.utils.text import counted, printable, some_of

SPLITS = ("train", "val", "test")
DECIMAL = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True, eq=False)
class ListedImages:
    """The rows of `data.labels`, in their order.

    Attributes:
        root: The folder that the files are in.
        config: The section `data`, with every column named.
        table: The rows as they stand.
        files: POSIX path of each image, relative to `root`.
        labels: Name of each image's class; "" for an image without a label.
        splits: The split of each image.
        groups: What each image must stay together with; "" for an image on its own.
        has_val: Whether the file itself says which images validation has, by split or fold.
    """

    root: Path
    config: DataConfig
    table: Table
    files: list[str]
    labels: list[str]
    splits: list[Split]
    groups: list[str]
    has_val: bool

    def rows_of(self, split: str) -> list[int]:
        """Return the positions of the images of a split."""
        return [row for row, each in enumerate(self.splits) if each == split]


def open_listed_data(config: DataConfig, seed: int, num_classes: int | None) -> TrainingData:
    """Open the training and validation images of `config.labels`.

    Classes are numbered as `number_classes` says, by the labels as they stand in the file.

    Args:
        config: The recipe's section `data`.
        seed: The run's seed, on which the split by `config.val_fraction` depends.
        num_classes: Number of classes that the recipe states, None if it states none.

    Raises:
        UserError: Has every problem of the file (see `read_listed_images`), or of its classes.
    """
    images = read_listed_images(config)
    train, val = _train_and_val(images, seed)
    name = f"data.labels: {printable(config.labels)}"
    names = sorted({images.labels[row] for row in train}, key=natural_key)
    problems: list[str] = []
    if not names:
        raise UserError(f"{name}: no row to train on has a label")
    if len(names) == 1:
        problems.append(f"{name}: only one class, {printable(*names)}; two are needed")
    problems += _unknown_classes(images, val, names, "training")
    if not problems and not val:
        problems.append(f"{name}: no images for validation{_why_none_held_out(images)}")
    classes = number_classes(names, num_classes, problems)
    if problems:
        raise UserError(*problems)
    return TrainingData(_image_set(images, train, classes), _image_set(images, val, classes), classes)


def open_listed_split(config: DataConfig, split: str, classes: ClassMap, seed: int) -> ImageSet:
    """Open the images of a split with the class map of a checkpoint.

    Args:
        config: The run's section `data`, with `labels`.
        split: "train" and "val" are those of `open_listed_data`; "test" are the rows that the file says are, and those without a label: a
            labelled set if all of them have one, and an unlabelled one if none has.
        classes: The class map of the checkpoint.
        seed: The run's seed.

    Raises:
        UserError: As `open_listed_data` does; there is no such split, or only some of its images have labels.
    """
    name = f"data.labels: {printable(config.labels)}"
    if split not in SPLITS:
        raise UserError(f"--split: {printable(split)}: neither a folder nor a split of {printable(config.labels)}: {', '.join(SPLITS)}")
    images = read_listed_images(config)
    rows = images.rows_of("test") if split == "test" else _train_and_val(images, seed)[split == "val"]
    if not rows:
        raise UserError(f"{name}: no {split} images" + "; rows without a label are" * (split == "test"))
    unlabelled = [row for row in rows if not images.labels[row]]
    if unlabelled and len(unlabelled) < len(rows):
        where = images.table.where(unlabelled)
        raise UserError(f"{name}: {len(unlabelled)} of {len(rows)} test images have no label ({where}); give one to all or to none")
    if problems := _unknown_classes(images, rows, [each for each in classes.names if each], "the checkpoint"):
        raise UserError(*problems)
    return _image_set(images, rows, classes)


def read_listed_images(config: DataConfig) -> ListedImages:
    """Read `config.labels`, find its images, and say what is wrong.

    Raises:
        UserError: Images are missing, outside of `config.root`, ambiguous or listed twice; labels have stray spaces or stand in two forms;
            a split or a fold is missing or unknown. Every kind of problem is listed, with the lines of the file.
    """
    root = require_root(config.root)
    table, config = read_labels(config)
    problems: list[str] = []
    files = _find_files(table, config, root, problems)
    labels = _read_names(table, str(config.label_column), problems)
    splits, has_val = _read_splits(table, config, labels, problems)
    groups = [""] * len(files) if config.group_column == NO_COLUMN else [cell.strip() for cell in table.column(str(config.group_column))]
    if problems:
        raise UserError(*problems)
    return ListedImages(root, config, table, files, labels, splits, groups, has_val)


def _find_files(table: Table, config: DataConfig, root: Path, problems: list[str]) -> list[str]:
    names = table.column(str(config.file_column))
    found = match_files(names, root)
    place = f"data.labels: {printable(table.path)}"
    missing: list[str] = []
    ambiguous: list[str] = []
    rows: dict[str, list[int]] = defaultdict(list)
    for row, (name, files) in enumerate(zip(names, found, strict=True)):
        if len(files) == 1:
            rows[files[0]].append(row)
            continue
        start = f"{place}, {table.where([row])}: "
        if not name.strip():
            missing.append(f"{start}no file name")
        elif files:
            ambiguous.append(f"{start}{printable(name)} may be {' or '.join(map(printable, files))}")
        else:
            what = "lies outside of data.root," if is_outside(name, root) else "no such image in"
            missing.append(f"{start}{printable(name)}: {what} {printable(root)}")
    doubled = [f"{place}, {table.where(each)}: all name {printable(file)}" for file, each in rows.items() if len(each) > 1]
    problems += limit(missing, place, "missing images")
    problems += limit(ambiguous, place, "names that may be several images")
    problems += limit(doubled, place, "images in several rows")
    return [files[0] if files else "" for files in found]


def _read_names(table: Table, column: str, problems: list[str]) -> list[str]:
    """Return the name of each row's class; append to `problems` the labels that stand in several forms or are no clean text.

    The forms of a label differ in case, in spaces, in Unicode form, or in the zeros of a number. Letters of an alphabet do differ by case.
    Where decimals are whole numbers, as a table writes integers of which some are missing, they are integers.
    """
    cells = table.column(column)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(cells):
        rows[cell].append(row)
    forms: dict[str, list[str]] = defaultdict(list)
    for label in rows:
        if label.strip():
            forms[_form_key(label)].append(label)
    place = f"data.labels: {printable(table.path)}"
    found: list[str] = []
    for same in forms.values():
        if len(same) > 1:
            common, *rare = sorted(same, key=lambda label: (label != label.strip(), -len(rows[label])))
            others = " and ".join(f"{label!a} ({table.where(rows[label])})" for label in rare)
            found.append(
                f"{place}: one label in {len(same)} forms: {common!a} ({counted(len(rows[common]), 'row')}) and {others}; write it in one"
            )
        elif same[0] != same[0].strip():
            found.append(f"{place}, {table.where(rows[same[0]])}: label {same[0]!a} has stray spaces")
        elif not same[0].isprintable():
            found.append(f"{place}, {table.where(rows[same[0]])}: label {same[0]!a} is not printable text in UTF-8")
    problems += limit(found, place, "labels in several forms")
    is_decimal = bool(forms) and all(key.isdecimal() for key in forms)
    names = {label: match[1] if is_decimal and (match := DECIMAL.fullmatch(label)) else label.strip() for label in rows}
    return [names[cell] for cell in cells]


def _form_key(label: str) -> str:
    """Return a key that the forms of one label have in common."""
    text = label.strip()
    if number := re.fullmatch(r"0*([0-9]+)(\.0*)?", text):
        return number[1]
    return text if len(text) == 1 else alike_key(text)


def _read_splits(table: Table, config: DataConfig, labels: Sequence[str], problems: list[str]) -> tuple[list[Split], bool]:
    """Return the split of each row, and whether the file says which rows validation has; append to `problems` what is wrong."""
    words = split_words(table, config)
    given = [words[cell] for cell in table.column(str(config.split_column))] if words else None
    place = f"data.labels: {printable(table.path)}"
    splits: list[Split] = []
    unlabelled: list[int] = []
    without_split: list[int] = []
    for row, label in enumerate(labels):
        split = given[row] if given else None
        if not label and split not in (None, "test"):
            unlabelled.append(row)
        elif given and label and split is None:
            without_split.append(row)
        splits.append(split or ("train" if label else "test"))
    if unlabelled:
        problems.append(f"{place}, {table.where(unlabelled)}: no label, but {config.split_column} says {splits[unlabelled[0]]}")
    if without_split:
        problems.append(f"{place}, {table.where(without_split)}: a label, but nothing in {config.split_column}")
    if config.fold is None:
        return splits, "val" in splits
    folds = _read_folds(table, config, splits, problems)
    return [
        split if split == "test" else "val" if fold == config.fold else "train" for split, fold in zip(splits, folds, strict=True)
    ], True


def _read_folds(table: Table, config: DataConfig, splits: Sequence[Split], problems: list[str]) -> list[int | None]:
    """Return the fold of each row, None for test images and where there is none; append to `problems` what is wrong."""
    cells = table.column(str(config.fold_column))
    folds = [None if split == "test" else read_fold(cell) for cell, split in zip(cells, splits, strict=True)]
    column = f"{printable(table.path)}: column {printable(config.fold_column)}"
    wrong = [row for row, (fold, split) in enumerate(zip(folds, splits, strict=True)) if fold is None and split != "test"]
    known = sorted({fold for fold in folds if fold is not None})
    if wrong:
        problems.append(f"data.fold_column: {column}, {table.where(wrong)}: {cells[wrong[0]]!r} is no number of a fold")
    elif config.fold not in known:
        problems.append(f"data.fold: no fold {config.fold}: {column} has {some_of(map(str, known), 10)}")
    return folds


def _train_and_val(images: ListedImages, seed: int) -> tuple[list[int], list[int]]:
    """Return the positions of the training and of the validation images, in the order of the file.

    Raises:
        UserError: `data.val_fraction` is set, and the file has validation images.
    """
    train, val = images.rows_of("train"), images.rows_of("val")
    if images.has_val:
        if images.config.val_fraction is not None:
            column = printable(images.config.split_column)
            raise UserError(f"data.val_fraction: {column} of {printable(images.table.path)} has validation images; leave it null")
        return train, val
    fraction = images.config.val_fraction or FLAT_VAL_FRACTION
    members: dict[str, list[int]] = defaultdict(list)
    for row in train:
        members[images.labels[row]].append(row)
    if images.config.group_column == NO_COLUMN:
        held_out = {rows[i] for name, rows in members.items() for i in draw_held_out(len(rows), fraction, seed, name)}
    else:
        groups = [images.groups[row] for row in train]
        chosen = draw_groups_held_out([images.labels[row] for row in train], groups, fraction, seed)
        held_out = {train[position] for position in chosen}
    return [row for row in train if row not in held_out], [row for row in train if row in held_out]


def _why_none_held_out(images: ListedImages) -> str:
    if images.has_val or images.config.group_column == NO_COLUMN:
        return ""
    return f": each class is one {printable(images.config.group_column)}; data.group_column={NO_COLUMN} does without"


def _unknown_classes(images: ListedImages, rows: Sequence[int], names: Sequence[str], to: str) -> list[str]:
    known = set(names)
    unknown: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if (label := images.labels[row]) and label not in known:
            unknown[label].append(row)
    place = f"data.labels: {printable(images.table.path)}"
    lines = [
        f"{place}, {images.table.where(each)}: class {printable(label)} is unknown to {to}{hint_alike(label, names)}"
        for label, each in unknown.items()
    ]
    return limit(lines, place, "unknown classes")


def _image_set(images: ListedImages, rows: Sequence[int], classes: ClassMap) -> ImageSet:
    numbers: Mapping[str, int] = classes.labels
    files = tuple(images.files[row] for row in rows)
    if not all(images.labels[row] for row in rows):
        return ImageSet(images.root, files, None, 0)
    return ImageSet(images.root, files, np.array([numbers[images.labels[row]] for row in rows], np.int64), 0)
