"""`folds.csv`: a row for each image, with its fold, group and label, and at the end with what was predicted for it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw1.errors import UserError
from hw1.folds.images import FoldImages
from hw1.utils.files import write_atomic
from hw1.utils.text import to_bytes

HEADER = ("image", "fold", "group", "label", "predicted")


@dataclass(frozen=True, eq=False)
class FoldTable:
    """The images with their folds.

    Attributes:
        images: The images.
        folds: Fold of each labelled one, from 0.
        k: Number of folds.
    """

    images: FoldImages
    folds: Sequence[int]
    k: int

    def write(self, path: Path, predicted: Mapping[str, str]) -> None:
        """Write the table; images without a label have a row without a fold.

        Args:
            path: The file.
            predicted: Name of the predicted class by image; one that it lacks stays empty.

        Raises:
            RunError: The file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        images = self.images
        for file, fold, group, label in zip(images.files, self.folds, images.groups, images.labels, strict=True):
            writer.writerow([file, fold, group, label, predicted.get(file, "")])
        for file in images.test_files:
            writer.writerow([file, "", "", "", predicted.get(file, "")])
        write_atomic(path, to_bytes(text.getvalue()))

    @classmethod
    def read(cls, path: Path, images: FoldImages, k: int) -> "FoldTable":
        """Read the folds of a table that was written for these images.

        Raises:
            UserError: It is of other images, labels or another number of folds, or damaged.
        """
        try:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = list(csv.DictReader(file))
            labelled = {row["image"]: row for row in rows if row["label"]}
            folds = [int(labelled[image]["fold"]) for image in images.files]
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            folds, labelled = [], {}
        is_same = list(labelled) == images.files and [row["label"] for row in labelled.values()] == images.labels
        if not is_same or set(folds) != set(range(k)):
            raise UserError(f"{path}: of other images, other labels or another --k; run.name=NAME makes new folds")
        groups = [row["group"] for row in labelled.values()]
        test = [row["image"] for row in rows if not row["label"]]
        return cls(FoldImages(images.root, images.files, images.labels, groups, test), folds, k)
