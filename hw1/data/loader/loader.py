"""Load a data set as normalised batches on the device: the same bits with any number of loader processes, from any step on."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from hw1.config.recipe import AugConfig, Recipe
from hw1.data.augment.plain_transforms import Transform
from hw1.data.augment.transforms import build_eval_transform, build_train_transform
from hw1.data.cache.disk import open_disk_source
from hw1.data.image_set import ImageSet
from hw1.data.image_source import ImageSource
from hw1.data.loader.base import Batch
from hw1.data.loader.dataset import ImageDataset
from hw1.data.loader.sampler import EpochBatches
from hw1.data.loader.shared_buffer import FilledSlot, SharedBuffer, SlotDataset, SlotSampler
from hw1.data.loader.watchdog import Watchdog
from hw1.data.loader.worker import describe_exit, hold_signals, require_semaphores, start_worker
from hw1.errors import RunError
from hw1.models.preprocess import to_grey
from hw1.runtime import distributed as dist
from hw1.runtime.cpu import default_num_workers

SECONDS_PER_IMAGE = 0.5  # that reading one may take before its process counts as hanging


class Loader:
    """Batches of an ImageSet, epoch by epoch.

    What a batch holds depends on the files and the arguments, its epoch and its step, and on nothing else; loading leaves the global random
    generators alone. The loader processes start with the first epoch and stay until `close`, as does the memory through which batches come
    from them (at most 1 GiB at usual sizes: `SharedBuffer`).

    Args:
        images: The images.
        transform: Applied to each image.
        batch_size: Images in a batch, over all processes that train together.
        shuffle: Draw an order for each epoch; else the order is that of `images`.
        seed: Order and augmentation depend on it.
        num_workers: Number of loader processes; with 0 this process loads.
        device: Where the batches go.
        aug: Gives the size of the images, and the mean and standard deviation for normalising them.
        channels_last: Memory format of the images; else they are contiguous.
        source: Where the images are read from; None reads the files.
        balanced: Draw each class equally often (`EpochBatches`).
        rank: Number of this process among those that train together.
        world_size: Number of processes that train together. Each gets a part of every batch, which may be empty.
        in_chans: 3 for RGB, 1 for grey.
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
        in_chans: int = 3,
    ) -> None:
        self.stop: Callable[[], int | None] = lambda: None
        """Returns a signal number once the run was asked to stop: from then on no batch is waited for long."""
        self._dataset = ImageDataset(images, transform, seed, source)
        labels = images.labels if balanced else None
        self._batches = EpochBatches(len(images), batch_size, seed, shuffle, labels, rank=rank, world_size=world_size)
        self._num_workers = num_workers
        self._device = device
        self._mean = torch.tensor(aug.mean[:in_chans], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(aug.std[:in_chans], device=device).view(1, -1, 1, 1)
        self._size = aug.size
        self._channels_last = channels_last
        self._num_begun = 0  # epochs: one that is not the latest is over
        self._buffer: SharedBuffer | None = None
        self._data_loader: DataLoader[Any] | None = None
        self._filled_slots: Iterator[FilledSlot | RunError] | None = None
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._watchdog: Watchdog | None = None

    @property
    def num_samples(self) -> int:
        """Images in an epoch, over all processes."""
        return self._batches.num_samples

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, the last, smaller one included."""
        return self._batches.num_batches

    def batch_size_of(self, step: int) -> int:
        """Return the number of images in batch `step` (0 to num_batches - 1) of an epoch, over all processes."""
        return self._batches.batch_size_of(step)

    def local_batch_size_of(self, step: int) -> int:
        """Return the number of images in batch `step` that this process gets; may be 0."""
        return self._batches.local_batch_size_of(step)

    def indices(self, epoch: int, steps: range) -> list[int]:
        """Return the positions in the ImageSet of all images in these batches of `epoch`, over all processes."""
        return [index for keys in self._batches.keys(epoch, steps) for _, index in keys]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of `epoch` (>= 0) from batch `start` on; loading begins at once. An epoch left half-way ends.

        Raises:
            RunError: A file can no longer be read, or a loader process died or hung; here or while iterating.
            RuntimeError: An epoch is continued after another one was begun; while iterating.
        """
        self._num_begun += 1
        self._batches.seek(epoch, start)
        with self._worker_errors():
            self._filled_slots = self._start_loading()
        assert self._buffer is not None
        slots = self._next_slots(self._num_begun)
        if self._device.type == "cuda":
            return self._prefetch(self._buffer, slots)
        return (self._to_device(self._buffer, *slot) for slot in slots)

    def preview(self, num: int) -> tuple[NDArray[np.uint8], list[int]]:
        """Return the first `num` images of epoch 0 (all of a smaller set) as the model gets them, but without normalisation.

        Returns:
            uint8 [N, S, S, 3], RGB; and their labels.

        Raises:
            RunError: A file can no longer be read.
        """
        samples = [self._dataset[key] for key in self._batches.first(num)]
        return np.stack([image.numpy() for image, _, _ in samples]), [label for _, label, _ in samples]

    def close(self) -> None:
        """End the loader processes now. Further calls do nothing; a further epoch starts new processes."""
        self._num_begun += 1
        shut_down = getattr(self._filled_slots, "_shutdown_workers", None)
        self._filled_slots, self._data_loader, self._workers = None, None, []
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        if shut_down is not None:  # dropping the reference would do, but the traceback of an error may hold another
            shut_down()
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None

    def _start_loading(self) -> Iterator[FilledSlot | RunError]:
        """Start the epoch that was sought; in the first one, start the loader processes too."""
        if self._data_loader is not None:
            return iter(self._data_loader)
        has_workers = self._num_workers > 0
        if has_workers:  # what a transform's first call compiles or loads, the processes inherit: here it is done once
            require_semaphores(self._num_workers)
            self._dataset.transform(np.zeros((self._size, self._size, 3), np.uint8), (0, 0, 0))
        self._buffer = buffer = SharedBuffer(self._num_workers, max(self.local_batch_size_of(0), 1), self._size)
        self._data_loader = DataLoader(
            SlotDataset(self._dataset, buffer),
            batch_size=None,  # the dataset's items are batches
            sampler=SlotSampler(self._batches, buffer),
            num_workers=self._num_workers,
            prefetch_factor=buffer.prefetch if has_workers else None,
            worker_init_fn=start_worker,
            persistent_workers=has_workers,
            generator=torch.Generator(),  # else each epoch would draw a number from the global one
        )
        with hold_signals():
            before = set(multiprocessing.active_children())
            filled_slots = iter(self._data_loader)
            self._workers = [child for child in multiprocessing.active_children() if child not in before]
        if self._device.type == "cuda":
            buffer.pin(self._device)
        if self._workers:
            seconds = SECONDS_PER_IMAGE * self.local_batch_size_of(0)
            self._watchdog = Watchdog(self._workers, seconds, lambda: self.stop() is not None)
        return filled_slots

    def _next_slots(self, number: int) -> Iterator[FilledSlot]:
        """Yield the filled slots of the epoch that was begun as the `number`-th."""
        while True:
            if number != self._num_begun or self._filled_slots is None:
                raise RuntimeError("this epoch is over: the loader was closed, or another epoch was begun")
            with self._worker_errors():
                filled = next(self._filled_slots, None)
            if filled is None:
                return
            if isinstance(filled, RunError):
                raise filled
            yield filled

    @contextlib.contextmanager
    def _worker_errors(self) -> Iterator[None]:
        """Replace the errors that follow from the death of a loader process, which are of many kinds, by a RunError that says so."""
        try:
            with self._watchdog.waiting() if self._watchdog else contextlib.nullcontext():
                yield
        except Exception as error:
            if (run_error := self._explain(error)) is not None:
                raise run_error from error
            raise

    def _explain(self, error: Exception) -> RunError | None:
        """Return what became of the loader processes, after ending those that are left; None if the error has another cause."""
        if not self._workers:
            if not self._num_workers or not isinstance(error, OSError):
                return None
            return RunError(
                f"the processes that load images could not be started ({error.strerror}); if /dev/shm is full, free it or give "
                "Docker more with --ipc=host or --shm-size=8g, else lower data.num_workers (0 needs none)"
            )
        connection.wait([worker.sentinel for worker in self._workers], timeout=1.0)  # the error may be seen before the death
        exits = [describe_exit(worker.exitcode) for worker in self._workers if worker.exitcode is not None]
        if not exits:
            return None
        watchdog = self._watchdog
        self.close()
        if watchdog is not None and watchdog.has_killed:
            return RunError(
                f"the processes that load images gave nothing for {watchdog.seconds} s and were ended; is the file system of data.root "
                "hanging, or was one of them stopped? If memory was full, lower data.num_workers"
            )
        return RunError(f"a process that loads images died ({', '.join(sorted(set(exits)))}); if memory was full, lower data.num_workers")

    def _to_device(self, buffer: SharedBuffer, slot: int, count: int) -> Batch:
        is_cuda = self._device.type == "cuda"
        image = buffer.image[slot, :count].to(self._device, non_blocking=is_cuda)
        label = buffer.label[slot, :count].to(self._device, non_blocking=is_cuda, copy=True)
        if is_cuda:
            buffer.reuse_after(slot, torch.cuda.current_stream(self._device).record_event())
        image = image.permute(0, 3, 1, 2)  # [B, S, S, 3] becomes [B, 3, S, S] in channels_last order; all that follows keeps the order
        if not self._channels_last:
            image = image.contiguous()
        image = image.div(255.0)
        if self._mean.shape[1] == 1:
            image = to_grey(image)
        image = image.sub_(self._mean).div_(self._std)
        return Batch(image, label, buffer.index[slot, :count].clone())

    def _prefetch(self, buffer: SharedBuffer, slots: Iterator[FilledSlot]) -> Iterator[Batch]:
        """On CUDA, copy and normalise batch n + 1 on a stream of its own while the caller works on batch n."""
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        ready: tuple[Batch, torch.cuda.Event] | None = None
        for slot in slots:
            with torch.cuda.stream(side):
                following = (self._to_device(buffer, *slot), side.record_event())
            if ready is not None:
                yield _hand_over(*ready)
            ready = following
        if ready is not None:
            yield _hand_over(*ready)


def _hand_over(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Make the current stream wait for the batch."""
    current = torch.cuda.current_stream(batch.image.device)
    current.wait_event(copied)
    for tensor in (batch.image, batch.label):
        tensor.record_stream(current)  # its memory belongs to the side stream, which must not reuse it before this one is done
    return batch


def build_train_loader(images: ImageSet, recipe: Recipe, device: torch.device) -> Loader:
    """Build the loader of shuffled, augmented batches of `data.batch_size`, which the processes of a run share."""
    return _build_loader(images, build_train_transform(recipe.aug), recipe.data.batch_size, True, recipe, device)


def build_eval_loader(images: ImageSet, recipe: Recipe, device: torch.device) -> Loader:
    """Build the loader of resized batches of `data.eval_batch_size` for each process, in the set's order, the same in every epoch."""
    batch_size = recipe.data.eval_batch_size * dist.world_size()
    is_stored = recipe.data.cache == "disk"  # then the squares are, and nothing more is cut off them
    aug = recipe.aug.model_copy(update={"fit": "squash", "crop_pct": 1.0}) if is_stored else recipe.aug
    return _build_loader(images, build_eval_transform(aug), batch_size, False, recipe, device)


def _build_loader(images: ImageSet, transform: Transform, batch_size: int, training: bool, recipe: Recipe, device: torch.device) -> Loader:
    workers = recipe.data.num_workers
    is_cached = recipe.data.cache == "disk"
    return Loader(
        images,
        transform,
        batch_size=batch_size,
        shuffle=training,
        seed=recipe.seed,
        num_workers=default_num_workers(device) if workers is None else workers,
        device=device,
        aug=recipe.aug,
        channels_last=recipe.train.channels_last,
        source=open_disk_source(images, recipe.data, recipe.aug, transform, training=training) if is_cached else None,
        balanced=training and recipe.data.sampling == "balanced",
        rank=dist.rank(),
        world_size=dist.world_size(),
        in_chans=recipe.model.in_chans,
    )
