"""Model and loader to predictions: every sample once, in the order of its index."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hw1.data.loader.base import fill_up
from hw1.errors import Interrupted, RunError
from hw1.evaluation.predictions import Predictions
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.runtime import distributed as dist
from hw1.runtime.device import Autocast


class EvalBatch(Protocol):
    """The part of `hw1.data.loader.loader.Batch` that is read here."""

    @property
    def image(self) -> Tensor: ...
    @property
    def label(self) -> Tensor: ...
    @property
    def index(self) -> Tensor: ...


class EvalLoader(Protocol):
    """The part of `hw1.data.loader.loader.Loader` that is used here."""

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
    folded = fuse_batchnorm(model)
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
