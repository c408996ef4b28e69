"""Datasets to normalised batches on the device: the same bits with any number of loader processes, from any step on."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hw1.config.recipe import AugConfig, Recipe
from hw1.data.augment.transforms import Transform, build_eval_transform, build_train_transform
from hw1.data.cache.disk import open_disk_source
from hw1.data.image_set import ImageSet
from hw1.data.image_source import ImageSource
from hw1.data.loader.base import Batch, BatchLoader
from hw1.data.loader.dataset import ImageDataset
from hw1.data.loader.sampler import EpochBatches
from hw1.data.loader.shared_buffer import SharedBuffer
from hw1.data.loader.watchdog import Watchdog
from hw1.data.loader.worker import start_worker
from hw1.errors import RunError
from hw1.runtime import distributed as dist
from hw1.runtime.cpu import default_num_workers
from hw1.utils.signals import STOP_SIGNALS

SECONDS_PER_IMAGE = 0.5  # that reading one may take, before its process is taken for hung
Filled = tuple[int, int]
"""A slot of the ring and the number of samples in it."""


class Loader(BatchLoader):
    """Batches of an ImageSet, epoch by epoch.

    What a batch holds is a function of the files, the transform, `batch_size`, `shuffle`, `balanced` (by class), `seed`, the epoch and the
    step: of nothing else, and drawing it leaves the global random generators alone. Of `world_size` processes that train together this is
    number `rank`, and gets its share of each batch, which may be none of it. The loader's processes (`num_workers`; 0 loads in this one)
    start with the first epoch and stay until `close`, as does the memory through which batches come from them (at most 1 GiB at usual
    sizes: `SharedBuffer`).
    """

    def __init__(
        self,
        images: ImageSet,
        transform: Transform,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        num_workers: int,
        device: torch.device,
        aug: AugConfig,
        channels_last: bool,
        source: ImageSource | None = None,
        balanced: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._images = ImageDataset(images, transform, seed, source)
        labels = images.labels if balanced else None
        super().__init__(EpochBatches(len(images), batch_size, seed, shuffle, labels, rank=rank, world_size=world_size))
        self._num_workers = num_workers
        self._device = device
        self._mean = torch.tensor(aug.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(aug.std, device=device).view(1, 3, 1, 1)
        self._size = aug.size
        self._channels_last = channels_last
        self._buffer: SharedBuffer | None = None
        self._source: DataLoader[Any] | None = None
        self._raw: Iterator[Any] | None = None
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._watchdog: Watchdog | None = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` (>= 0) from batch `start` on; loading begins at once. It ends an epoch that was left half-way.

        Raises RunError where a file cannot be read any more or a loader process died or hung (here or while iterating), RuntimeError
        where an epoch is continued after another was begun.
        """
        self._turn += 1
        self._batches.seek(epoch, start)
        with self._dead_workers_named():
            self._raw = self._begin()
        assert self._buffer is not None
        filled = self._filled_slots(self._turn)
        if self._device.type == "cuda":
            return self._prefetched(self._buffer, filled)
        return (self._to_device(self._buffer, *slot) for slot in filled)

    def preview(self, num: int) -> tuple[np.ndarray, list[int]]:
        """The first `num` images of epoch 0 as the model will get them, but for normalisation: uint8 [N, S, S, 3] RGB; and their labels.

        A small set gives fewer. Raises RunError where a file cannot be read.
        """
        samples = [self._images[key] for key in self._batches.first(num)]
        return np.stack([image.numpy() for image, _, _ in samples]), [label for _, label, _ in samples]

    def close(self) -> None:
        """Ends the loader processes now. Further calls do nothing; a further epoch starts new ones."""
        self._turn += 1
        shut_down = getattr(self._raw, "_shutdown_workers", None)
        self._raw, self._source, self._workers = None, None, []
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        if shut_down is not None:  # dropping the reference would do, but the traceback of an error may hold another
            shut_down()
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None

    def _begin(self) -> Iterator[Any]:
        if self._source is not None:
            return iter(self._source)
        has_workers = self._num_workers > 0
        if has_workers:  # what a transform's first call compiles or loads, the processes inherit: here it is done once
            _try_semaphores(self._num_workers)
            self._images.transform(np.zeros((self._size, self._size, 3), np.uint8), (0, 0, 0))
        self._buffer = buffer = SharedBuffer(self._num_workers, max(self.share_of(0), 1), self._size)
        self._source = DataLoader(
            _SlotFiller(self._images, buffer),
            batch_size=None,  # the dataset's items are batches
            sampler=_SlottedBatches(self._batches, buffer),  # type: ignore[arg-type]  # any iterable of keys
            num_workers=self._num_workers,
            prefetch_factor=buffer.prefetch if has_workers else None,
            worker_init_fn=start_worker,
            persistent_workers=has_workers,
            generator=torch.Generator(),  # else each epoch would draw a number from the global one
        )
        with _workers_starting():
            others = set(multiprocessing.active_children())
            raw = iter(self._source)
            self._workers = [child for child in multiprocessing.active_children() if child not in others]
        if self._device.type == "cuda":
            buffer.pin(self._device)
        if self._workers:
            self._watchdog = Watchdog(self._workers, SECONDS_PER_IMAGE * self.share_of(0), lambda: self.stop() is not None)
        return raw

    def _filled_slots(self, turn: int) -> Iterator[Filled]:
        while True:
            if turn != self._turn or self._raw is None:
                raise RuntimeError("this epoch is over: the loader was closed, or another epoch was begun")
            with self._dead_workers_named():
                raw = next(self._raw, None)
            if raw is None:
                return
            if isinstance(raw, RunError):
                raise raw
            yield raw

    @contextlib.contextmanager
    def _dead_workers_named(self) -> Iterator[None]:
        """Turns the errors that follow from the death of a loader process, which are of many kinds, into RunError."""
        try:
            with self._watchdog.waiting() if self._watchdog else contextlib.nullcontext():
                yield
        except Exception as error:
            if not self._workers:
                if self._num_workers and isinstance(error, OSError):
                    raise RunError(
                        f"the processes that load images could not be started ({error.strerror}); if /dev/shm is full, free it or give "
                        "Docker more with --ipc=host or --shm-size=8g, else lower data.num_workers (0 needs none)"
                    ) from error
                raise
            connection.wait([worker.sentinel for worker in self._workers], timeout=1.0)  # the error may be seen before the death
            dead = [_cause_of_death(worker.exitcode) for worker in self._workers if worker.exitcode is not None]
            if not dead:
                raise
            is_hung, seconds = (self._watchdog.has_killed, self._watchdog.seconds) if self._watchdog else (False, 0)
            self.close()
            if is_hung:
                raise RunError(
                    f"the processes that load images gave nothing for {seconds} s and were ended; is the file system of data.root hanging, "
                    "or was one of them stopped? If memory was full, lower data.num_workers"
                ) from error
            raise RunError(
                f"a process that loads images died ({', '.join(sorted(set(dead)))}); if memory was full, lower data.num_workers"
            ) from error

    def _to_device(self, buffer: SharedBuffer, slot: int, count: int) -> Batch:
        is_cuda = self._device.type == "cuda"
        image = buffer.image[slot, :count].to(self._device, non_blocking=is_cuda)
        label = buffer.label[slot, :count].to(self._device, non_blocking=is_cuda, copy=True)
        if is_cuda:
            buffer.copied(slot, torch.cuda.current_stream(self._device).record_event())
        image = image.permute(0, 3, 1, 2)  # [B, S, S, 3] becomes [B, 3, S, S] in channels_last order; all that follows keeps the order
        if not self._channels_last:
            image = image.contiguous()
        image = image.div(255.0).sub_(self._mean).div_(self._std)
        return Batch(image, label, buffer.index[slot, :count].clone())

    def _prefetched(self, buffer: SharedBuffer, filled: Iterator[Filled]) -> Iterator[Batch]:
        """CUDA: batch n + 1 is copied and normalised on a stream of its own while the caller works on batch n."""
        side = torch.cuda.Stream(self._device)
        waiting: tuple[Batch, torch.cuda.Event] | None = None
        for slot in filled:
            with torch.cuda.stream(side):
                following = (self._to_device(buffer, *slot), side.record_event())
            if waiting is not None:
                yield _hand_over(*waiting)
            waiting = following
        if waiting is not None:
            yield _hand_over(*waiting)


def _hand_over(batch: Batch, ready: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream(batch.image.device)
    current.wait_event(ready)
    for tensor in (batch.image, batch.label):
        tensor.record_stream(current)  # its memory belongs to the side stream, which must not reuse it before this one is done
    return batch


class _SlottedBatches:
    """Sampler: each batch of keys with the slot that it is to fill, which is waited for."""

    def __init__(self, batches: EpochBatches, buffer: SharedBuffer) -> None:
        self._batches = batches
        self._buffer = buffer

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        return ((self._buffer.slot(turn), keys) for turn, keys in enumerate(self._batches))


class _SlotFiller(Dataset[Any]):
    """Whole batches, keyed by a slot and their list of (epoch, index): writes the samples into the slot.

    A RunError is returned, not raised: torch would hand it on as a worker's traceback in a new exception.
    """

    def __init__(self, images: ImageDataset, buffer: SharedBuffer) -> None:
        self._images = images
        self._buffer = buffer

    def __getitem__(self, key: tuple[int, list[tuple[int, int]]]) -> Filled | RunError:
        slot, keys = key
        try:
            return slot, self._buffer.write(slot, (self._images[item] for item in keys))
        except RunError as error:
            return error


@contextlib.contextmanager
def _workers_starting() -> Iterator[None]:
    """Keeps signals in order while torch starts its processes; POSIX, main thread.

    Signals that ask to stop are held back, so that none meets one before `start_worker` has prepared it. And the SIGCHLD handler that torch
    sets is undone: it answers a process's death with an exception in whatever line the main thread is at, saving a checkpoint for instance.
    Without it the death is noticed where the next batch is asked for, up to 5 s later.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _try_semaphores(num_workers: int) -> None:
    """Raises OSError where there is no room for the semaphores of torch's queues, which lie in /dev/shm.

    torch would raise it too, and complain of its own unfinished iterator besides.
    """
    [multiprocessing.Semaphore() for _ in range(8 + 3 * num_workers)]


def _cause_of_death(exitcode: int) -> str:
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"


def build_train_loader(images: ImageSet, recipe: Recipe, device: torch.device) -> BatchLoader:
    """Shuffled, augmented batches of `data.batch_size`, which the processes of a run share."""
    return _build_loader(images, build_train_transform(recipe.aug), recipe.data.batch_size, True, recipe, device)


def build_eval_loader(images: ImageSet, recipe: Recipe, device: torch.device) -> BatchLoader:
    """Batches of `data.eval_batch_size` for each process in the set's order, resized only: the same for every epoch."""
    batch_size = recipe.data.eval_batch_size * dist.world_size()
    return _build_loader(images, build_eval_transform(recipe.aug), batch_size, False, recipe, device)


def _build_loader(
    images: ImageSet, transform: Transform, batch_size: int, shuffle: bool, recipe: Recipe, device: torch.device
) -> BatchLoader:
    workers = recipe.data.num_workers
    is_cached = recipe.data.cache == "disk"
    return Loader(
        images,
        transform,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=recipe.seed,
        num_workers=default_num_workers(device) if workers is None else workers,
        device=device,
        aug=recipe.aug,
        channels_last=recipe.train.channels_last,
        source=open_disk_source(images, recipe.data, recipe.aug, transform, training=shuffle) if is_cached else None,
        balanced=shuffle and recipe.data.sampling == "balanced",
        rank=dist.rank(),
        world_size=dist.world_size(),
    )
