"""Batches from pictures that lie in the device's memory: `data.cache: device`. No processes, no files after the start."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from hw1.config import AugConfig
from hw1.data.batch import Batch, BatchLoader
from hw1.data.batch_augment import BatchAugment, BatchPictures, BatchTaken, pack_factors
from hw1.data.images import ImageSet
from hw1.data.policy import draw_factors, largest_crop
from hw1.data.sampler import EpochBatches
from hw1.data.store import load_for_crops, load_resized
from hw1.errors import UserError

Key = tuple[int, int]  # epoch, index


class ResidentLoader(BatchLoader):
    """Batches of an ImageSet, epoch by epoch.

    What a batch holds is a function of the files, the recipe's `aug`, `batch_size`, `shuffle`, `seed`, the epoch and the step; process
    `rank` of `world_size` gets its share of it. The factors are drawn here, a few numbers a picture; all else is queued on the device
    without waiting for it, compiled where that is CUDA.

    Reads every file once, on all cores, when it is made. Raises UserError where memory lacks, RunError where a file cannot be read.
    """

    def __init__(
        self,
        images: ImageSet,
        aug: AugConfig,
        *,
        augmented: bool,
        batch_size: int,
        shuffle: bool,
        seed: int,
        device: torch.device,
        channels_last: bool,
        balanced: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if device.type not in ("cuda", "cpu"):
            raise UserError(f"data.cache: device needs CUDA or the CPU, not {device.type}; use data.cache=disk or data.cache=none")
        labels = images.labels if balanced else None
        super().__init__(EpochBatches(len(images), batch_size, seed, shuffle, labels, rank=rank, world_size=world_size))
        self._device = device
        self._labels = torch.full((len(images),), -1) if images.labels is None else torch.from_numpy(images.labels)
        self._aug, self._augmented, self._seed = aug, augmented, seed
        self._store = load_for_crops(images, aug, device) if augmented else load_resized(images, aug.size, device)
        self._make = self._build(aug, channels_last).to(device)
        self._compiled: Callable[..., torch.Tensor] = self._make
        if device.type == "cuda":
            self._compiled = torch.compile(self._make, fullgraph=True, dynamic=False)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` (>= 0) from batch `start` on. It ends an epoch that was left half-way.

        Raises RuntimeError where an epoch is continued after another was begun.
        """
        self._turn += 1
        self._batches.seek(epoch, start)
        return self._run(iter(self._batches), self._turn)

    def preview(self, num: int) -> tuple[np.ndarray, list[int]]:
        """The first `num` pictures of epoch 0, or all of a small set, without normalisation: uint8 [N, S, S, 3] RGB; and their labels."""
        keys = self._batches.first(num)
        pictures = self._make.pictures(self._store.pixels, *self._describe(keys))
        return pictures.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy(), self._labels[[index for _, index in keys]].tolist()

    def close(self) -> None:
        """Ends the epoch under way. The pictures stay until the loader itself goes."""
        self._turn += 1

    def _build(self, aug: AugConfig, channels_last: bool) -> BatchPictures:
        if not self._augmented:
            return BatchTaken(aug, channels_last=channels_last)
        sizes = zip(self._store.heights, self._store.widths, strict=True)
        tallest, widest = np.max([largest_crop(height, width, aug) for height, width in sizes], axis=0).tolist()
        return BatchAugment(aug, tallest, widest, channels_last=channels_last)

    def _run(self, batches: Iterator[list[Key]], turn: int) -> Iterator[Batch]:
        full = max(self.share_of(0), 1)
        for keys in batches:
            if turn != self._turn:
                raise RuntimeError("this epoch is over: the loader was closed, or another epoch was begun")
            # The last batch of an epoch is filled up, by its last picture: another size would be compiled anew.
            which = self._describe(keys + (keys[-1:] or [(0, 0)]) * (full - len(keys)))
            index = torch.tensor([index for _, index in keys], dtype=torch.int64)
            image = self._compiled(self._store.pixels, *which)[: len(keys)]
            yield Batch(image, self._to_device(self._labels[index]), index)

    def _describe(self, keys: list[Key]) -> tuple[torch.Tensor, ...]:
        """What `self._make` needs for these pictures, on the device."""
        indices = [index for _, index in keys]
        if not self._augmented:
            return (self._to_device(torch.tensor(indices)),)
        store = self._store
        factors = [draw_factors((self._seed, *key), store.heights[key[1]], store.widths[key[1]], self._aug) for key in keys]
        draws = pack_factors(factors, [store.starts[i] for i in indices], [store.widths[i] for i in indices], self._aug.size)
        return tuple(self._to_device(each) for each in draws)

    def _to_device(self, small: torch.Tensor) -> torch.Tensor:
        return small.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else small
