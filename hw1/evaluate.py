"""Model and loader to predictions: every sample once, in the order of its index."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from hw1 import dist
from hw1.data.batch import fill_up
from hw1.device import Autocast
from hw1.errors import Interrupted, RunError, UserError
from hw1.files import write_atomic
from hw1.limits import check_npz
from hw1.models.fold import fold_batchnorm


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of each sample of a split; row i belongs to sample `index[i]`.

    `index` int64 [N], strictly increasing; `logits` float32 [N, C]; `labels` int64 [N], -1 where there is none.
    Raises `ValueError` for arrays of other types or shapes, or an index out of order or twice.
    """

    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        kinds = (self.index.dtype, self.logits.dtype, self.labels.dtype)
        if kinds != (np.int64, np.float32, np.int64):
            raise ValueError(f"expected index int64, logits float32, labels int64, got {', '.join(map(str, kinds))}")
        num = len(self.index)
        if self.index.shape != (num,) or self.labels.shape != (num,) or self.logits.ndim != 2 or len(self.logits) != num:
            raise ValueError(f"shapes do not match: {self.index.shape}, {self.logits.shape}, {self.labels.shape}")
        if (np.diff(self.index) <= 0).any():
            raise ValueError("index must rise: a sample is out of order or comes twice")

    def __len__(self) -> int:
        return len(self.index)

    def save(self, path: Path, *, files: Sequence[str], class_names: Sequence[str]) -> None:
        """Writes an `.npz` with index, logits, labels, files (one a row) and class_names (one a class), whole or not at all.

        It needs no pickle: `numpy.load(path)` reads it. Raises `ValueError` if a count does not match.
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
        write_atomic(path, buffer.getvalue())


class SavedPredictions(NamedTuple):
    """A file of predictions: `files[i]` is the picture of row i, `class_names[c]` the name of logit c."""

    predictions: Predictions
    files: list[str]
    class_names: list[str]


def load_predictions(path: Path) -> SavedPredictions:
    """Reads what `Predictions.save` wrote. Raises `UserError` for a file that is missing, damaged or something else."""
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


class EvalBatch(Protocol):
    """The part of `hw1.data.loaders.Batch` that is read here."""

    @property
    def image(self) -> Tensor: ...
    @property
    def label(self) -> Tensor: ...
    @property
    def index(self) -> Tensor: ...


class EvalLoader(Protocol):
    """The part of `hw1.data.loaders.Loader` that is used here."""

    def epoch(self, epoch: int) -> Iterator[EvalBatch]: ...


def _never() -> int | None:
    return None


def evaluate(
    model: nn.Module,
    loader: EvalLoader,
    *,
    autocast: Autocast = nullcontext,
    should_stop: Callable[[], int | None] = _never,
    desc: str | None = None,
) -> Predictions:
    """The model's logits for epoch 0 of `loader`, without autograd, under `autocast()`. The model itself is left as it is, in its mode: a
    copy of it in eval mode computes them, with BatchNorm folded into its convolutions.

    Logits stay on the device until the end, so that no batch waits for it. `desc` names a progress bar, shown on a terminal only. Where
    several processes train, the loader of each gives its share, and all get the predictions of all: every sample once.

    Raises `Interrupted` when `should_stop()` returns a signal number (asked before each batch), and `RunError` if the loaders give no
    sample, or one twice.
    """
    logits, labels, index = [], [], []
    batches = tqdm(
        loader.epoch(0),
        total=getattr(loader, "num_batches", None),
        desc=desc,
        leave=False,
        disable=True if desc is None else None,
    )
    folded = fold_batchnorm(model)
    with torch.inference_mode(), batches:
        for batch in batches:
            if (signum := should_stop()) is not None:
                raise Interrupted(signum)
            with autocast():
                output = folded(fill_up(batch.image, 1))[: len(batch.image)]
            logits.append(output.to(torch.float32, copy=True))  # a copy: a compiled model may reuse its output's memory
            labels.append(batch.label)
            index.append(batch.index)
        if not index:
            raise RunError("evaluation: there is no image to evaluate")
        arrays = [torch.cat(parts).cpu().numpy() for parts in (index, logits, labels)]
    arrays = [np.concatenate(parts) for parts in zip(*dist.gather(arrays), strict=True)]
    order = np.argsort(arrays[0], kind="stable")
    if len(np.unique(arrays[0])) < len(order):
        raise RunError("evaluation: the loader gave a sample more than once")
    return Predictions(*(array[order] for array in arrays))
