"""Decide which samples are in which batch, from (seed, epoch, step) alone, so that any step can be computed again. No torch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

REPEAT_STRIDE = 2**32  # larger than every epoch; see EpochBatches
ORDER_STREAM = 2  # last seed word here; augmentation has 1 (hw1.data.augment.params)


class EpochBatches:
    """Batch sampler: gives lists of (epoch, index), `num_samples` in an epoch, the last, smaller batch included.

    The epoch comes with each index, so that loader processes need no state of their own. `seek` chooses the epoch and the first batch of
    the next iteration; without it that is epoch 0 from the start.

    With `balanced_by`, each class appears equally often in an epoch (+-1), and within a class each sample equally often (+-1). The k-th
    repeat of a sample in an epoch has (epoch + k * REPEAT_STRIDE) in its key instead of the epoch, so that it is augmented differently.

    Several processes each get a part of every batch. Joined in the order of their ranks the parts are the batch, whatever the number of
    processes. Of a batch with fewer samples than processes some parts are empty.

    Args:
        num_samples: Number of samples in the set and in an epoch.
        batch_size: Samples in a batch, over all processes.
        seed: The order depends on (seed, epoch).
        shuffle: Draw a permutation for each epoch; else the order is 0, 1, 2, ...
        balanced_by: Labels, int64 [num_samples], whose classes are to appear equally often; None: every sample appears once.
        rank: Number of this process, 0 to `world_size` - 1.
        world_size: Number of processes that train together.

    Raises:
        ValueError: `num_samples` or `batch_size` is less than 1.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        balanced_by: NDArray[np.int64] | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_samples < 1 or batch_size < 1:
            raise ValueError(f"num_samples and batch_size must be at least 1, got {num_samples} and {batch_size}")
        self._rank = rank
        self._world_size = world_size
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self._classes = None if balanced_by is None else [np.flatnonzero(balanced_by == label) for label in np.unique(balanced_by)]
        self.num_batches = -(-num_samples // batch_size)
        self._epoch = 0
        self._start = 0

    def seek(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch (>= 0) and the first batch (0 to num_batches) of the next iteration; one already begun is not affected.

        Raises:
            ValueError: `epoch` or `start` is out of range.
        """
        if epoch < 0 or not 0 <= start <= self.num_batches:
            raise ValueError(f"epoch must be >= 0 and start within 0 ... {self.num_batches}, got {epoch} and {start}")
        self._epoch = epoch
        self._start = start

    def batch_size_of(self, step: int) -> int:
        """Return the number of samples in batch `step` of any epoch, over all processes.

        Raises:
            ValueError: `step` is not within 0 to num_batches - 1.
        """
        if not 0 <= step < self.num_batches:
            raise ValueError(f"step must be within 0 ... {self.num_batches - 1}, got {step}")
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def local_batch_size_of(self, step: int) -> int:
        """Return the number of samples in batch `step` that this process gets, which is never more than in batch 0.

        The processes get as equal numbers as possible; lower ranks get one more.
        """
        return len(range(*self._local_range(self.batch_size_of(step))))

    def _local_range(self, num: int) -> tuple[int, int]:
        """Return where this process's part of `num` samples starts and stops."""
        each, remainder = divmod(num, self._world_size)
        start = self._rank * each + min(self._rank, remainder)
        return start, start + each + (self._rank < remainder)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the sample indices in the order of `epoch`: int64 [num_samples]."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        rng = np.random.Generator(np.random.PCG64((self.seed, epoch, 0, ORDER_STREAM)))
        if self._classes is None:
            return rng.permutation(self.num_samples)
        counts = np.full(len(self._classes), self.num_samples // len(self._classes))
        counts[rng.permutation(len(counts))[: self.num_samples % len(counts)]] += 1
        drawn = [
            np.concatenate([np.tile(members, count // len(members)), rng.permutation(members)[: count % len(members)]])
            for members, count in zip(self._classes, counts.tolist(), strict=True)
        ]
        return rng.permutation(np.concatenate(drawn))

    def keys(self, epoch: int, steps: range) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of `epoch` at these steps, those of all processes."""
        order = self.order(epoch)
        epochs = np.full(self.num_samples, epoch)
        if self._classes is not None:
            by_sample = np.argsort(order, kind="stable")
            repeats = np.arange(self.num_samples) - np.searchsorted(order[by_sample], order[by_sample])
            epochs[by_sample] += repeats * REPEAT_STRIDE
        for step in steps:
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield list(zip(epochs[batch].tolist(), order[batch].tolist(), strict=True))

    def first(self, num: int) -> list[tuple[int, int]]:
        """Return the first `num` keys of epoch 0, or all of a smaller set."""
        return [key for batch in self.keys(0, range(min(self.num_batches, -(-num // self.batch_size)))) for key in batch][:num]

    def __len__(self) -> int:
        """Return the number of batches that the next iteration gives."""
        return self.num_batches - self._start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # No generator function: epoch and start are those of this call, not of the first batch's.
        batches = self.keys(self._epoch, range(self._start, self.num_batches))
        return (keys[slice(*self._local_range(len(keys)))] for keys in batches)
