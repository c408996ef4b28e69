"""What a loader gives, whatever its images come from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from hw1.data.loader.sampler import EpochBatches


class Batch(NamedTuple):
    image: torch.Tensor
    """float32 [B, 3, S, S] on the device, normalised: (x / 255 - mean) / std."""
    label: torch.Tensor
    """int64 [B] on the device; -1 where the set has no labels."""
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index
    """int64 [B] on the CPU: positions in the ImageSet."""


def fill_up(images: torch.Tensor, num: int) -> torch.Tensor:
    """A share's images [B, 3, S, S] or labels [B], but at least `num` (B >= num: the very same): zeros for none, a single one repeated.

    Few models can do with no image, and BatchNorm, in training, not with one of a single pixel.
    """
    if len(images) >= num:
        return images
    return images.repeat(num, *[1] * (images.ndim - 1)) if len(images) else images.new_zeros(num, *images.shape[1:])


class BatchLoader(ABC):
    """Batches of an ImageSet, epoch by epoch: `hw1.data.loader.loader.Loader`."""

    def __init__(self, batches: EpochBatches) -> None:
        self._batches = batches
        self._turn = 0  # counts epochs begun: one that is not the latest is over
        self.stop: Callable[[], int | None] = lambda: None
        """Returns a signal once the run was asked to stop: from then on no batch is waited for long."""

    @property
    def num_samples(self) -> int:
        return self._batches.num_samples

    @property
    def num_batches(self) -> int:
        """Batches in a whole epoch, the last, smaller one included."""
        return self._batches.num_batches

    def batch_size_of(self, step: int) -> int:
        """Samples in batch `step` (0 ... num_batches - 1) of an epoch, those of all processes that train together."""
        return self._batches.batch_size_of(step)

    def share_of(self, step: int) -> int:
        """Those of them that this process gets; may be 0."""
        return self._batches.share_of(step)

    def indices(self, epoch: int, steps: range) -> list[int]:
        """Return the positions in the ImageSet of all samples in these batches of `epoch`, those of all processes."""
        return [index for keys in self._batches.keys(epoch, steps) for _, index in keys]

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` (>= 0) from batch `start` on. It ends an epoch that was left half-way."""

    @abstractmethod
    def preview(self, num: int) -> tuple[np.ndarray, list[int]]:
        """The first `num` images of epoch 0, or all of a small set, without normalisation: uint8 [N, S, S, 3] RGB; and their labels."""

    @abstractmethod
    def close(self) -> None:
        """Ends what was started."""
