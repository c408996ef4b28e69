"""Run a model on a loader: the predictions of every sample once, in the order of its index."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hw1.data.loader.base import fill_up
from hw1.errors import Interrupted, RunError, collect_as_usual
from hw1.evaluation.predictions import Predictions
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.runtime import distributed as dist
from hw1.runtime.device import Autocast
from hw1.utils.progress_bar import ProgressBar


class EvalBatch(Protocol):
    """The part of `hw1.data.loader.loader.Batch` that is read here."""

    @property
    def image(self) -> Tensor:
        """Normalised images, float [B, 3, S, S]."""

    @property
    def label(self) -> Tensor:
        """Labels, int64 [B]; -1 where there is none."""

    @property
    def index(self) -> Tensor:
        """Positions of the samples in their set, int64 [B]."""


class EvalLoader(Protocol):
    """The part of `hw1.data.loader.loader.Loader` that is used here."""

    def epoch(self, epoch: int) -> Iterator[EvalBatch]:
        """Iterate over the batches of an epoch."""


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
    """Compute the model's logits for epoch 0 of a loader, without autograd.

    A copy of the model in eval mode, with BatchNorm folded into its convolutions, computes them; the model itself keeps its mode and
    state. Logits stay on the device until the end, so no batch waits for a copy. With several processes each loader yields a part of the
    samples, and every process gets the predictions of all samples, each once.

    Args:
        model: Maps images [B, 3, S, S] to logits [B, C].
        loader: Yields the batches.
        autocast: Makes the context in which the model computes.
        should_stop: Called before each batch; returns the number of a signal that asks to stop, or None.
        desc: Name of a progress bar, which is shown on a terminal only; None shows none.

    Raises:
        Interrupted: `should_stop` returned a signal number.
        RunError: The loaders yield no sample, or one twice.
    """
    collect_as_usual()
    logits, labels, index = [], [], []
    total, disable = getattr(loader, "num_batches", None), True if desc is None else None
    batches = ProgressBar(loader.epoch(0), total=total, desc=desc, leave=False, disable=disable)
    folded = fuse_batchnorm(model)
    with torch.inference_mode(), batches:
        for batch in batches:
            if (signum := should_stop()) is not None:
                raise Interrupted(signum)
            with autocast():
                output = folded(fill_up(batch.image, 1))[: len(batch.image)]
            logits.append(output.to(torch.float32, copy=True))  # a compiled model may reuse the memory of its output
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
