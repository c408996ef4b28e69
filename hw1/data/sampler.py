"""Which samples are in which batch: a function of (seed, epoch, step), so that any step can be computed again. No torch."""

from collections.abc import Iterator

import numpy as np

ORDER_STREAM = 2  # last seed word here; augmentation has 1 (hw1.data.transforms)


class EpochBatches:
    """Batch sampler: lists of (epoch, index) that hold every sample once an epoch, the last, smaller batch included.

    The order is a permutation drawn from (seed, epoch), or 0, 1, 2, ... where `shuffle` is false. `seek` says which epoch the next
    iteration goes through and from which batch on; without it that is epoch 0 from the start. The epoch travels with each index, so that
    a loader's processes need no state of their own.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, shuffle: bool) -> None:
        if num_samples < 1 or batch_size < 1:
            raise ValueError(f"num_samples and batch_size must be at least 1, got {num_samples} and {batch_size}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.num_batches = -(-num_samples // batch_size)
        self._epoch = 0
        self._start = 0

    def seek(self, epoch: int, start: int = 0) -> None:
        """Sets the epoch (>= 0) and first batch (0 ... num_batches) of the next iteration; one already begun goes on as it was."""
        if epoch < 0 or not 0 <= start <= self.num_batches:
            raise ValueError(f"epoch must be >= 0 and start within 0 ... {self.num_batches}, got {epoch} and {start}")
        self._epoch = epoch
        self._start = start

    def batch_size_of(self, step: int) -> int:
        """Number of samples in batch `step` (0 ... num_batches - 1) of any epoch."""
        if not 0 <= step < self.num_batches:
            raise ValueError(f"step must be within 0 ... {self.num_batches - 1}, got {step}")
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Sample indices in the order of `epoch`; int64 [num_samples]."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        return np.random.Generator(np.random.PCG64((self.seed, epoch, 0, ORDER_STREAM))).permutation(self.num_samples)

    def __len__(self) -> int:
        """Number of batches that the next iteration gives."""
        return self.num_batches - self._start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # No generator function: epoch and start are those of this call, not of the first batch's.
        return self._batches(self._epoch, range(self._start, self.num_batches))

    def _batches(self, epoch: int, steps: range) -> Iterator[list[tuple[int, int]]]:
        order = self.order(epoch)
        for step in steps:
            first = step * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size].tolist()]
