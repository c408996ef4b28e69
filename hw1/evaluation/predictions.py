"""Predictions for a set of images, in memory and on disk. No torch."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.errors import UserError
from hw1.utils.files import write_atomic
from hw1.utils.safe_load import check_npz


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's logits for the samples of a split.

    Attributes:
        index: Position of each sample in its set, int64 [N], strictly increasing.
        logits: float32 [N, C].
        labels: int64 [N]; -1 where there is none.

    Raises:
        ValueError: Arrays have other types or shapes, or the index does not increase strictly.
    """

    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        dtypes = [str(array.dtype) for array in (self.index, self.logits, self.labels)]
        if dtypes != ["int64", "float32", "int64"]:
            raise ValueError(f"expected index int64, logits float32, labels int64, got {', '.join(dtypes)}")
        num = len(self.index)
        if self.index.shape != (num,) or self.labels.shape != (num,) or self.logits.ndim != 2 or len(self.logits) != num:
            raise ValueError(f"shapes do not match: {self.index.shape}, {self.logits.shape}, {self.labels.shape}")
        if (np.diff(self.index) <= 0).any():
            raise ValueError("index must rise: a sample is out of order or comes twice")

    def __len__(self) -> int:
        return len(self.index)

    def save(self, path: Path, *, files: Sequence[str], class_names: Sequence[str]) -> None:
        """Write the bytes of `to_npz` to a file, whole or not at all.

        Raises:
            ValueError: The number of files or class names does not match the logits.
            RunError: The file cannot be written.
        """
        write_atomic(path, self.to_npz(files=files, class_names=class_names))

    def to_npz(self, *, files: Sequence[str], class_names: Sequence[str]) -> bytes:
        """Return an `.npz` file with index, logits, labels, files and class_names; it holds no pickle: `numpy.load` reads it.

        Args:
            files: Name of each image, [N].
            class_names: Name of each class, [C].

        Raises:
            ValueError: The number of files or class names does not match the logits.
        """
        if (len(files), len(class_names)) != self.logits.shape:
            raise ValueError(f"{len(files)} files and {len(class_names)} class names for logits {self.logits.shape}")
        buffer = io.BytesIO()
        np.savez(
            buffer,
            index=self.index,
            logits=self.logits,
            labels=self.labels,
            files=np.array(files, dtype=np.str_),
            class_names=np.array(class_names, dtype=np.str_),
        )
        return buffer.getvalue()


class SavedPredictions(NamedTuple):
    """The content of a file of predictions: `files[i]` is the image of row i, `class_names[c]` the class of logit c."""

    predictions: Predictions
    files: list[str]
    class_names: list[str]


def load_predictions(path: Path) -> SavedPredictions:
    """Read a file that `Predictions.save` wrote.

    Raises:
        UserError: The file is missing, damaged or something else.
    """
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as saved:
            predictions = Predictions(saved["index"], saved["logits"], saved["labels"])
            files, class_names = saved["files"].tolist(), saved["class_names"].tolist()
        if (len(files), len(class_names)) != predictions.logits.shape:
            raise ValueError("counts of files or class names do not match the logits")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of predictions") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no readable file of predictions ({' '.join(str(error).split())})") from error
    return SavedPredictions(predictions, files, class_names)
