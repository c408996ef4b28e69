"""Record whole training steps as CUDA graphs, so that a step takes one launch instead of some thousand.

At batch 32 a modern GPU finishes a kernel before the host has launched the next. A recorded step reads its inputs from fixed tensors, which
are filled before each replay: images, labels, and numbers (learning rates, the decay of the averaged weights, how Mixup mixes). It
changes weights, optimizer state, statistics, sums and the flags of the guard in place.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from hw1.training.mixup import Draw

EAGER_STEPS = 3
"""Steps of each batch size before it is recorded: they create the optimizer's state, choose cuDNN's kernels and compile."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Calls a function while recording it, and returns a function that replays it."""


class DeviceStep(Protocol):
    """An optimizer step of one batch that runs on the device only."""

    def __call__(self, images: Tensor, labels: Tensor, draw: Tensor, decay: Tensor) -> None:
        """Do the step.

        Args:
            images: [B, 3, S, S].
            labels: Int64 [B].
            draw: How the batch is mixed (`hw1.training.mixup.Draw`).
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


class _Recording(NamedTuple):
    images: Tensor
    labels: Tensor
    numbers: Tensor
    """The decay of the averaged weights, the learning rate of each parameter group, and what Mixup draws."""
    replay: Callable[[], None]


class CudaGraphSteps:
    """A recording for each batch size that occurs more than `EAGER_STEPS` times: the full batch's and that of the smaller last one.

    Args:
        step: What is recorded.
        optimizer: Of the step; its learning rates become inputs of the recording.
        device: Of the step.
        record: Records a function.
    """

    def __init__(self, step: DeviceStep, optimizer: Optimizer, device: torch.device, record: Record) -> None:
        self._step, self._optimizer, self._device, self._record = step, optimizer, device, record
        self._num_eager: Counter[int] = Counter()  # by batch size
        self._recordings: dict[int, _Recording] = {}

    def replay(self, images: Tensor, labels: Tensor, *, draw: Draw, decay: float) -> bool:
        """Do a step from its recording, which is made at the first step after the eager ones.

        Args:
            images: [B, 3, S, S].
            labels: Int64 [B].
            draw: How the batch is mixed.
            decay: Of the averaged weights.

        Returns:
            Whether the step was done; False while this batch size has no recording.
        """
        size, draw = len(images), torch.as_tensor(draw, dtype=torch.float32)
        if size not in self._recordings:
            self._num_eager[size] += 1
            if self._num_eager[size] <= EAGER_STEPS:
                return False
            self._recordings[size] = self._record_step(images, labels, draw.shape)
        recording = self._recordings[size]
        recording.images.copy_(images)
        recording.labels.copy_(labels)
        rates = [group["lr"] for group in self._optimizer.param_groups]
        numbers = torch.cat([torch.tensor([decay, *rates]), draw.reshape(-1)])
        if recording.numbers.is_cuda:
            numbers = numbers.pin_memory()  # from pageable memory the copy would wait for the device
        recording.numbers.copy_(numbers, non_blocking=True)
        recording.replay()
        return True

    def _record_step(self, images: Tensor, labels: Tensor, draw_shape: torch.Size) -> _Recording:
        images, labels, num_rates = images.clone(), labels.clone(), len(self._optimizer.param_groups)
        numbers = torch.zeros(1 + num_rates + draw_shape.numel(), device=self._device)
        decay, draw = numbers[0], numbers[1 + num_rates :].view(draw_shape)

        def step() -> None:
            with _rates_on_device(self._optimizer, numbers[1 : 1 + num_rates]):
                self._step(images, labels, draw, decay)

        return _Recording(images, labels, numbers, self._record(step))


@contextmanager
def _rates_on_device(optimizer: Optimizer, rates: Tensor) -> Iterator[None]:
    """Set the groups' learning rates to tensors, which a recording reads; afterwards they are numbers again, as checkpoints need them.

    `capturable` tells torch that this is intended; the state of fused kernels is on the device in any case.
    """
    before = [dict(group) for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates.unbind(), strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        yield
    finally:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            group.update({key: old[key] for key in ("lr", "capturable") if key in old})
