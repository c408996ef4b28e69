"""Which samples are in which batch: a function of (seed, epoch, step), so that any step can be computed again. No torch."""

from collections.abc import Iterator

import numpy as np

AGAIN = 2**32  # beyond every epoch; see EpochBatches
ORDER_STREAM = 2  # last seed word here; augmentation has 1 (hw1.data.augment.transforms)


class EpochBatches:
    """Batch sampler: lists of (epoch, index), `num_samples` in an epoch, the last, smaller batch included.

    The order is a permutation drawn from (seed, epoch), or 0, 1, 2, ... where `shuffle` is false. `seek` says which epoch the next
    iteration goes through and from which batch on; without it that is epoch 0 from the start. The epoch travels with each index, so that
    a loader's processes need no state of their own.

    Every sample comes once an epoch, unless `balanced_by` gives the labels, int [num_samples]: then every class that they hold comes
    equally often, but for one sample more of some where it does not come out even, and within a class each sample equally often, likewise.
    The k-th further time that a sample comes in an epoch, (epoch + k AGAIN) stands in place of the epoch, so that it is augmented anew.

    Of several processes each gives its `share_of` every batch: put together by rank they are the batch, whatever their number. A batch of
    fewer samples than processes leaves some of them an empty list.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        balanced_by: np.ndarray | None = None,
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
        """Sets the epoch (>= 0) and first batch (0 ... num_batches) of the next iteration; one already begun goes on as it was."""
        if epoch < 0 or not 0 <= start <= self.num_batches:
            raise ValueError(f"epoch must be >= 0 and start within 0 ... {self.num_batches}, got {epoch} and {start}")
        self._epoch = epoch
        self._start = start

    def batch_size_of(self, step: int) -> int:
        """Number of samples in batch `step` (0 ... num_batches - 1) of any epoch, those of all processes."""
        if not 0 <= step < self.num_batches:
            raise ValueError(f"step must be within 0 ... {self.num_batches - 1}, got {step}")
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def share_of(self, step: int) -> int:
        """Number of them that are this process' own: as equal as can be, the lower ranks have one more; as many or fewer than of step 0."""
        return len(range(*self._share(self.batch_size_of(step))))

    def _share(self, num: int) -> tuple[int, int]:
        """From where to where the process' own of `num` samples are."""
        each, more = divmod(num, self._world_size)
        start = self._rank * each + min(self._rank, more)
        return start, start + each + (self._rank < more)

    def order(self, epoch: int) -> np.ndarray:
        """Sample indices in the order of `epoch`; int64 [num_samples]."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        rng = np.random.Generator(np.random.PCG64((self.seed, epoch, 0, ORDER_STREAM)))
        if self._classes is None:
            return rng.permutation(self.num_samples)
        shares = np.full(len(self._classes), self.num_samples // len(self._classes))
        shares[rng.permutation(len(shares))[: self.num_samples % len(shares)]] += 1
        drawn = [
            np.concatenate([np.tile(members, share // len(members)), rng.permutation(members)[: share % len(members)]])
            for members, share in zip(self._classes, shares.tolist(), strict=True)
        ]
        return rng.permutation(np.concatenate(drawn))

    def keys(self, epoch: int, steps: range) -> Iterator[list[tuple[int, int]]]:
        """The batches of `epoch` at these steps, whole."""
        order = self.order(epoch)
        epochs = np.full(self.num_samples, epoch)
        if self._classes is not None:
            by_sample = np.argsort(order, kind="stable")
            epochs[by_sample] += (np.arange(self.num_samples) - np.searchsorted(order[by_sample], order[by_sample])) * AGAIN
        for step in steps:
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield list(zip(epochs[batch].tolist(), order[batch].tolist(), strict=True))

    def first(self, num: int) -> list[tuple[int, int]]:
        """The first `num` keys of epoch 0, or all of a small set."""
        return [key for batch in self.keys(0, range(min(self.num_batches, -(-num // self.batch_size)))) for key in batch][:num]

    def __len__(self) -> int:
        """Number of batches that the next iteration gives."""
        return self.num_batches - self._start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # No generator function: epoch and start are those of this call, not of the first batch's.
        whole = self.keys(self._epoch, range(self._start, self.num_batches))
        return (keys[slice(*self._share(len(keys)))] for keys in whole)
