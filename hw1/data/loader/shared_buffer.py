"""Shared memory in which batches travel from the loader's processes to the device: a fixed number of slots, allocated once."""

import mmap
import multiprocessing
from collections.abc import Iterable
from contextlib import suppress

import torch

from hw1.data.loader.dataset import Sample
from hw1.errors import RunError

PREFETCH = 2  # batches that each process works on or has ready
SPARE = 2  # slots for the batch that is being copied to the device and the one before it
MAX_BYTES = 2**30


def prefetch_of(num_workers: int, batch_size: int, size: int) -> int:
    """Batches under way for each loader process: `PREFETCH`, or 1 where so many slots would take more than `MAX_BYTES`."""
    return PREFETCH if _num_bytes(num_workers * PREFETCH + SPARE, batch_size, size) <= MAX_BYTES else 1


def _num_bytes(num_slots: int, batch_size: int, size: int) -> int:
    return num_slots * batch_size * (size * size * 3 + 16)


class SharedBuffer:
    """Slots for batches of at most B images, used in turn: written by one process, read by another, never copied in between.

    image: uint8 [slots, B, S, S, 3]; label and index: int64 [slots, B]. The processes of one loader have num_workers x prefetch batches
    under way, and there are two slots more: slots x B x (3 S^2 + 16) bytes, at most 1 GiB unless num_workers + 2 batches are larger than
    that. At B = 32 and S = 224 that is 4.8 MB a slot, 164 MB with 16 processes.

    The memory is anonymous and reaches the processes by being forked, so that the size of /dev/shm does not matter. Where processes are not
    forked (macOS, Python from 3.14 on) it is torch's shared memory. Raises RunError where there is not so much.
    """

    def __init__(self, num_workers: int, batch_size: int, size: int) -> None:
        self.prefetch = prefetch_of(num_workers, batch_size, size)
        self.num_slots = num_workers * self.prefetch + SPARE
        self._memory = _shared_memory(_num_bytes(self.num_slots, batch_size, size))
        numbers = self.num_slots * 2 * batch_size * 8
        self.label, self.index = self._memory[:numbers].view(torch.int64).view(2, self.num_slots, batch_size)
        self.image = self._memory[numbers:].view(self.num_slots, batch_size, size, size, 3)
        self._copied: dict[int, torch.cuda.Event] = {}
        self._is_pinned = False

    def pin(self, device: torch.device) -> None:
        """Page-locks the memory for CUDA, so that the device copies from it by itself; without success it stays as it is.

        Call after the processes were forked: what a driver does to page-locked memory on a fork is its own affair.
        """
        error = torch.cuda.cudart().cudaHostRegister(self._memory.data_ptr(), self._memory.nbytes, 0)
        self._is_pinned = int(error) == 0
        if not self._is_pinned:
            with suppress(RuntimeError):  # CUDA reports the error once more, at the next kernel
                torch.ones(1, device=device)

    def slot(self, turn: int) -> int:
        """The slot of batch number `turn` of an epoch, once the device has its last content (which it has, but for a rare moment)."""
        slot = turn % self.num_slots
        if copied := self._copied.pop(slot, None):
            copied.synchronize()
        return slot

    def write(self, slot: int, samples: Iterable[Sample]) -> int:
        """Fills the slot from its first row on; returns the number of samples."""
        image, label, index = self.image[slot].numpy(), self.label[slot].numpy(), self.index[slot].numpy()
        row = -1
        for row, sample in enumerate(samples):
            image[row], label[row], index[row] = sample
        return row + 1

    def copied(self, slot: int, event: torch.cuda.Event) -> None:
        """The slot may be written again when `event` has happened; without this call, as soon as two more batches were asked for."""
        self._copied[slot] = event

    def close(self) -> None:
        """Waits for the copies under way and undoes `pin`. The memory goes with the last reference."""
        for event in self._copied.values():
            event.synchronize()
        self._copied.clear()
        if self._is_pinned:
            torch.cuda.cudart().cudaHostUnregister(self._memory.data_ptr())
            self._is_pinned = False


def _shared_memory(num_bytes: int) -> torch.Tensor:
    """uint8 [num_bytes]"""
    room = f"no room for {num_bytes / 2**20:.0f} MiB of images on their way from the loader's processes"
    try:
        if multiprocessing.get_start_method() == "fork":
            return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8)
        return torch.empty(num_bytes, dtype=torch.uint8).share_memory_()
    except OSError as error:
        raise RunError(f"{room} ({error.strerror}): lower data.num_workers or the batch size") from error
    except RuntimeError as error:  # torch's, of /dev/shm
        raise RunError(f"{room} in /dev/shm: lower data.num_workers, or give Docker more with --ipc=host or --shm-size=8g") from error
