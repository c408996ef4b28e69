"""Record whole training steps as CUDA graphs, so that a step takes one launch instead of some thousand.

At batch 32 a modern GPU finishes a kernel before the host has launched the next. A recorded step reads its inputs from fixed tensors, which
are filled before each replay: images, labels, and three numbers (Mixup's lambda, the learning rate, the decay of the averaged weights). It
changes weights, optimizer state, statistics, sums and the flags of the guard in place.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

EAGER_STEPS = 3
"""Steps of each batch size before it is recorded: they create the optimizer's state, choose cuDNN's kernels and compile."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Calls a function while recording it, and returns a function that replays it."""


class DeviceStep(Protocol):
    """An optimizer step of one batch that runs on the device only."""

    def __call__(self, images: Tensor, labels: Tensor, lam: Tensor, decay: Tensor) -> None:
        """Do the step.

        Args:
            images: [B, 3, S, S].
            labels: Int64 [B].
            lam: Mixup's lambda, a scalar.
            decay: Of the averaged weights, a scalar.
        """


class CudaGraphRecorder:
    """A `Record` with CUDA graphs.

    They share a pool of memory, because each ends before the next begins and none leaves a result in the pool.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record the function and return its replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # other threads may save and load meanwhile
            function()
        return graph.replay


class CudaGraphSteps:
    """A recording for each batch size that occurs more than `EAGER_STEPS` times: the full batch's and that of the smaller last one.

    Args:
        step: What is recorded.
        optimizer: Of the step; its learning rate becomes an input of the recording.
        device: Of the step.
        record: Records a function.
    """

    def __init__(self, step: DeviceStep, optimizer: Optimizer, device: torch.device, record: Record) -> None:
        self._step, self._optimizer, self._record = step, optimizer, record
        self._numbers = torch.zeros(3, device=device)
        self._num_eager: Counter[int] = Counter()  # by batch size
        self._recordings: dict[int, tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def replay(self, images: Tensor, labels: Tensor, *, lam: float, lr: float, decay: float) -> bool:
        """Do a step from its recording, which is made at the first step after the eager ones.

        Args:
            images: [B, 3, S, S].
            labels: Int64 [B].
            lam: Mixup's lambda.
            lr: Learning rate.
            decay: Of the averaged weights.

        Returns:
            Whether the step was done; False while this batch size has no recording.
        """
        size = len(images)
        if size not in self._recordings:
            self._num_eager[size] += 1
            if self._num_eager[size] <= EAGER_STEPS:
                return False
            self._recordings[size] = self._record_step(images, labels)
        image_input, label_input, replay = self._recordings[size]
        image_input.copy_(images)
        label_input.copy_(labels)
        numbers = torch.tensor([lam, lr, decay])
        if self._numbers.is_cuda:
            numbers = numbers.pin_memory()  # from pageable memory the copy would wait for the device
        self._numbers.copy_(numbers, non_blocking=True)
        replay()
        return True

    def _record_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Callable[[], None]]:
        images, labels = images.clone(), labels.clone()
        lam, lr, decay = self._numbers.unbind()

        def step() -> None:
            with _lr_on_device(self._optimizer, lr):
                self._step(images, labels, lam, decay)

        return images, labels, self._record(step)


@contextmanager
def _lr_on_device(optimizer: Optimizer, lr: Tensor) -> Iterator[None]:
    """Set the learning rate to a tensor, which a recording reads; afterwards it is a number again, as checkpoints need it.

    `capturable` tells torch that this is intended; the state of fused kernels is on the device in any case.
    """
    before = [dict(group) for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["lr"] = lr
            if "capturable" in group:
                group["capturable"] = True
        yield
    finally:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            group.update({key: old[key] for key in ("lr", "capturable") if key in old})
