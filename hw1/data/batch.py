"""What a loader gives, whatever its pictures come from."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch


class Batch(NamedTuple):
    image: torch.Tensor
    """float32 [B, 3, S, S] on the device, normalised: (x / 255 - mean) / std."""
    label: torch.Tensor
    """int64 [B] on the device; -1 where the set has no labels."""
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index
    """int64 [B] on the CPU: positions in the ImageSet."""


class BatchLoader(Protocol):
    """Batches of an ImageSet, epoch by epoch: `hw1.data.loaders.Loader`, `hw1.data.resident.ResidentLoader`."""

    @property
    def num_samples(self) -> int: ...

    @property
    def num_batches(self) -> int:
        """Batches in a whole epoch, the last, smaller one included."""

    def batch_size_of(self, step: int) -> int:
        """Samples in batch `step` (0 ... num_batches - 1) of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` (>= 0) from batch `start` on. It ends an epoch that was left half-way."""

    def preview(self, num: int) -> tuple[np.ndarray, list[int]]:
        """The first `num` pictures of epoch 0, or all of a small set, without normalisation: uint8 [N, S, S, 3] RGB; and their labels."""

    def close(self) -> None:
        """Ends what was started."""
