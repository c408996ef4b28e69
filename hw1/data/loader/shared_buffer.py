"""Hold batches in shared memory on their way from the loader processes to the device: a fixed number of slots, allocated once."""

import mmap
import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch.utils.data import Dataset

from hw1.data.loader.dataset import ImageDataset, Sample, SampleKey
from hw1.data.loader.sampler import EpochBatches
from hw1.errors import RunError

PREFETCH = 2  # batches that each process works on or has ready
SPARE = 2  # slots for the batch that is being copied to the device and the one before it
MAX_BYTES = 2**30
SlotKey = tuple[int, list[SampleKey]]
"""A slot and the samples that are to fill it."""
FilledSlot = tuple[int, int]
"""A slot and the number of samples in it."""


class SharedBuffer:
    """Slots for batches of at most B images, used in turn: one process writes, another reads, nothing is copied in between.

    image: uint8 [slots, B, S, S, 3]; label and index: int64 [slots, B]. The loader processes have num_workers x prefetch batches in
    progress, and there are two slots more: slots x B x (3 S^2 + 16) bytes, at most 1 GiB unless num_workers + 2 batches are larger than
    that. With B = 32 and S = 224 that is 4.8 MB a slot, 164 MB with 16 processes.

    The memory is anonymous and reaches the processes by being forked, so that the size of /dev/shm does not matter. Where processes are not
    forked (macOS, Python from 3.14 on) it is torch's shared memory.

    Args:
        num_workers: Number of loader processes.
        batch_size: B.
        size: S, pixels.

    Raises:
        RunError: There is not enough memory.
    """

    def __init__(self, num_workers: int, batch_size: int, size: int) -> None:
        self.prefetch = PREFETCH if _num_bytes(num_workers * PREFETCH + SPARE, batch_size, size) <= MAX_BYTES else 1
        self.num_slots = num_workers * self.prefetch + SPARE
        self._memory = _shared_memory(_num_bytes(self.num_slots, batch_size, size))
        numbers = self.num_slots * 2 * batch_size * 8
        self.label, self.index = self._memory[:numbers].view(torch.int64).view(2, self.num_slots, batch_size)
        self.image = self._memory[numbers:].view(self.num_slots, batch_size, size, size, 3)
        self._copies: dict[int, torch.cuda.Event] = {}
        self._is_pinned = False

    def pin(self, device: torch.device) -> None:
        """Page-lock the memory for CUDA, so that the device copies from it on its own; without success the memory stays as it is.

        Call after forking; pinned memory across fork() is undefined.
        """
        error = torch.cuda.cudart().cudaHostRegister(self._memory.data_ptr(), self._memory.nbytes, 0)  # type: ignore[no-untyped-call]
        self._is_pinned = int(error) == 0
        if not self._is_pinned:
            with suppress(RuntimeError):  # CUDA reports the error once more, at the next kernel
                torch.ones(1, device=device)

    def slot(self, number: int) -> int:
        """Return the slot of batch `number` of an epoch; wait until its former content is on the device, which it nearly always is."""
        slot = number % self.num_slots
        if event := self._copies.pop(slot, None):
            event.synchronize()
        return slot

    def write(self, slot: int, samples: Iterable[Sample]) -> int:
        """Fill the slot from its first row on; return the number of samples."""
        image, label, index = self.image[slot].numpy(), self.label[slot].numpy(), self.index[slot].numpy()
        row = -1
        for row, sample in enumerate(samples):
            image[row], label[row], index[row] = sample
        return row + 1

    def reuse_after(self, slot: int, event: torch.cuda.Event) -> None:
        """Protect the slot until `event` has happened; without this call it is written again once two more batches were asked for."""
        self._copies[slot] = event

    def close(self) -> None:
        """Wait for the copies in progress and undo `pin`. The memory is freed with the last reference."""
        for event in self._copies.values():
            event.synchronize()
        self._copies.clear()
        if self._is_pinned:
            torch.cuda.cudart().cudaHostUnregister(self._memory.data_ptr())  # type: ignore[no-untyped-call]
            self._is_pinned = False


class SlotSampler:
    """Sampler of a DataLoader: gives each batch of keys with the slot that it is to fill, as soon as that is free."""

    def __init__(self, batches: EpochBatches, buffer: SharedBuffer) -> None:
        self._batches = batches
        self._buffer = buffer

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[SlotKey]:
        return ((self._buffer.slot(number), keys) for number, keys in enumerate(self._batches))


class SlotDataset(Dataset[Any]):
    """Dataset of whole batches by `SlotKey`: writes the samples into the slot."""

    def __init__(self, images: ImageDataset, buffer: SharedBuffer) -> None:
        self._images = images
        self._buffer = buffer

    def __getitem__(self, key: SlotKey) -> FilledSlot | RunError:
        """Fill a slot. A RunError is returned, not raised: torch would put a worker's traceback into a new exception."""
        slot, keys = key
        try:
            return slot, self._buffer.write(slot, (self._images[item] for item in keys))
        except RunError as error:
            return error


def _num_bytes(num_slots: int, batch_size: int, size: int) -> int:
    return num_slots * batch_size * (size * size * 3 + 16)


def _shared_memory(num_bytes: int) -> torch.Tensor:
    """Allocate uint8 [num_bytes] that other processes share."""
    problem = f"no room for {num_bytes / 2**20:.0f} MiB of images on their way from the loader's processes"
    try:
        if multiprocessing.get_start_method() == "fork":
            return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8)
        memory = torch.empty(num_bytes, dtype=torch.uint8)
        memory.share_memory_()  # type: ignore[no-untyped-call]
        return memory
    except OSError as error:
        raise RunError(f"{problem} ({error.strerror}): lower data.num_workers or the batch size") from error
    except RuntimeError as error:  # torch's, of /dev/shm
        raise RunError(f"{problem} in /dev/shm: lower data.num_workers, or give Docker more with --ipc=host or --shm-size=8g") from error
