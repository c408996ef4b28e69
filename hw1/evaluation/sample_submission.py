"""Predictions in the shape of a sample submission: its rows, its header, its ids and its names of the classes. No torch."""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw1.data.table_file import Table, read_table
from hw1.errors import UserError
from hw1.evaluation.calibration import scale
from hw1.evaluation.metrics import log_softmax
from hw1.evaluation.predictions import Predictions
from hw1.utils.text import counted, printable, some_of, to_bytes

OPTION = "--sample-submission"
Naming = dict[str, int]
"""Class by what a table calls it."""


@dataclass(frozen=True, eq=False)
class SampleSubmission:
    """A sample submission, fitted to the images of a split and the classes of a model.

    Attributes:
        table: The sample: ids in its first column, then one column for the label, or one for the probability of each class.
        images: Position of the image of each row.
        naming: What the sample calls the classes.
        classes: Class of each column of probabilities; empty where there is one column, for the label.
    """

    table: Table
    images: list[int]
    naming: Naming
    classes: list[int]

    @property
    def content(self) -> str:
        """What it is filled with, in words."""
        return "probabilities" if self.classes else "labels"

    def fill_in(self, predictions: Predictions, temperature: float) -> bytes:
        """Return the table as CSV, with the predictions in place of the sample's.

        Args:
            predictions: Of every image of the split, in order.
            temperature: What the logits are divided by for probabilities.
        """
        rows: Sequence[Sequence[object]]
        if self.classes:
            probabilities = np.exp(log_softmax(scale(predictions.logits[self.images], temperature)))
            rows = probabilities[:, self.classes].tolist()
        else:
            names = {label: name for name, label in self.naming.items()}
            rows = [[names[label]] for label in predictions.logits[self.images].argmax(1).tolist()]
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.table.delimiter, lineterminator="\n")
        writer.writerow(self.table.header)
        writer.writerows([image_id, *row] for image_id, row in zip(self.table.columns[0], rows, strict=True))
        return to_bytes(text.getvalue())


def read_sample(path: Path, files: Sequence[str], names: Sequence[str], descriptions: Mapping[str, str]) -> SampleSubmission:
    """Read a sample submission and find the image of each row and what it calls the classes.

    An id is an image's path or its name, with or without suffix, in the same way in all rows. Classes are called as in the data, as in its
    `class_names.json`, or by their integer without leading zeros.

    Args:
        path: The sample, CSV or Parquet.
        files: Path of each image of the split.
        names: Name of each class.
        descriptions: What people call the classes, by name.

    Raises:
        UserError: An id is no image of the split, or stands twice; an image has no row; a column or label is no class.
    """
    table = read_table(path, OPTION)
    place = f"{OPTION}: {printable(path)}"
    if len(table.header) < 2:
        raise UserError(
            f"{place}: has only the column {printable(table.header[0])}; ids and labels, or ids and probabilities, are expected"
        )
    images = _match_ids(table, files, place)
    namings = _namings(names, descriptions)
    columns = table.header[1:]
    if len(columns) == 1 and not _holds_fractions(table.columns[1]):
        return SampleSubmission(table, images, _naming_of_labels(table, namings, place), [])
    if len(columns) == 1:
        if sorted(names) != ["0", "1"]:
            what = f"column {columns[0]!r} holds probabilities of one class, which is clear only where the classes are 0 and 1"
            raise UserError(f"{place}: {what}, not {some_of(names, 3)}")
        return SampleSubmission(table, images, namings[0], [list(names).index("1")])
    naming = max(namings, key=lambda each: sum(column in each for column in columns))
    problems = [f"{place}: column {column!r} is no class; classes are {some_of(naming, 3)}" for column in columns if column not in naming]
    twice = [column for column, count in Counter(columns).items() if count > 1]
    problems += [f"{place}: column {column!r} stands twice" for column in twice]
    lacking = [name for name in naming if name not in columns]
    if lacking:
        problems.append(f"{place}: has no column for {counted(len(lacking), 'class', 'classes')}: {some_of(lacking)}")
    if problems:
        raise UserError(*problems[:10])
    return SampleSubmission(table, images, naming, [naming[column] for column in columns])


def _match_ids(table: Table, files: Sequence[str], place: str) -> list[int]:
    """Return the position of the image of each row.

    Raises:
        UserError: The ids are not those of the images.
    """
    ids = table.columns[0]
    forms = [list(files), [os.path.splitext(file)[0] for file in files]]
    forms += [[form.rpartition("/")[2] for form in forms[0]], [form.rpartition("/")[2] for form in forms[1]]]
    wanted = set(ids)
    form = max(forms, key=lambda names: len(wanted.intersection(names)))
    positions = {name: position for position, name in enumerate(form)}
    unknown = [row for row, image_id in enumerate(ids) if image_id not in positions]
    problems: list[str] = []
    if unknown:
        what = counted(len(unknown), "id") + (" is" if len(unknown) == 1 else " are")
        shown = some_of((ids[row] for row in unknown), 3)
        problems.append(f"{place}, {table.where(unknown)}: {what} none of the {len(files):,} images: {shown}")
    doubled = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if doubled:
        rows = [row for row, image_id in enumerate(ids) if image_id == doubled[0]]
        problems.append(f"{place}, {table.where(rows)}: {printable(doubled[0])} stands {len(rows)} times")
    if len(positions) < len(form):
        [(name, _)] = Counter(form).most_common(1)
        problems.append(
            f"{place}: the id {printable(name)} may be {' or '.join(f for f, each in zip(files, form, strict=True) if each == name)}"
        )
    missing = [file for file, name in zip(files, form, strict=True) if name not in wanted]
    if missing:
        problems.append(f"{place}: has no row for {counted(len(missing), 'predicted image')}: {some_of(missing, 3)}")
    if problems:
        raise UserError(*problems)
    return [positions[image_id] for image_id in ids]


def _namings(names: Sequence[str], descriptions: Mapping[str, str]) -> list[Naming]:
    """Return what a sample may call the classes, each way of it; one that does not tell all classes apart is left out."""
    ways = [list(names), [descriptions.get(name, name) for name in names]]
    if all(name.isascii() and name.isdecimal() for name in names):
        ways.append([str(int(name)) for name in names])
    return [{name: label for label, name in enumerate(way)} for way in ways if len(set(way)) == len(names)]


def _naming_of_labels(table: Table, namings: Sequence[Naming], place: str) -> Naming:
    """Return what the sample's own labels show that it calls the classes; one and the same word in all rows only holds the place."""
    labels = [label for label in dict.fromkeys(table.columns[1]) if label]
    for naming in namings:
        if all(label in naming for label in labels):
            return naming
    if len(labels) == 1:
        return namings[0]
    unknown = next(label for label in labels if label not in namings[0])
    where = table.where([table.columns[1].index(unknown)])
    raise UserError(f"{place}, {where}: {unknown!r} is no class; classes are {some_of(namings[0], 3)}")


def _holds_fractions(cells: Sequence[str]) -> bool:
    """Return whether a column holds numbers from 0 to 1 that are no integers."""
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return False
    return all(0 <= value <= 1 for value in values) and any("." in cell for cell in cells)
