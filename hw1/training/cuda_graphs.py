"""Whole training steps recorded once as CUDA graphs: from then on one launch a step instead of some thousand.

At batch 32 a modern GPU is done with a kernel before the host has launched the next. What is recorded reads its inputs from fixed places,
which are filled before each replay: images, labels, and three numbers (Mixup's lambda, the learning rate, the decay of the averaged
weights). What it changes - weights, optimizer, statistics, sums, the guard's flags - are the tensors themselves.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

EAGER_STEPS = 3
"""Steps of each batch size before it is recorded: they make the optimizer's state, choose cuDNN's kernels and compile."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what is to be done, and returns what does it again."""


class DeviceStep(Protocol):
    """One optimizer step of one batch, without a look at the host: images [B, 3, S, S], labels int64 [B], lambda, decay of the average."""

    def __call__(self, images: Tensor, labels: Tensor, lam: Tensor, decay: Tensor) -> None: ...


class CudaGraphRecorder:
    """`Record` by CUDA graphs that share one pool of memory: each is done before the next begins, and none leaves a result in it."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # other threads save and load meanwhile
            function()
        return graph.replay


class CudaGraphSteps:
    """One recording for each batch size that comes often enough: the whole batch's, and that of the last, smaller one."""

    def __init__(self, step: DeviceStep, optimizer: Optimizer, device: torch.device, record: Record) -> None:
        self._step, self._optimizer, self._record = step, optimizer, record
        self._numbers = torch.zeros(3, device=device)
        self._seen: Counter[int] = Counter()
        self._recordings: dict[int, tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def replay(self, images: Tensor, labels: Tensor, *, lam: float, lr: float, decay: float) -> bool:
        """Does the step from its recording, made now if it is time; False where this size has none yet: then nothing was done."""
        size = len(images)
        if size not in self._recordings:
            self._seen[size] += 1
            if self._seen[size] <= EAGER_STEPS:
                return False
            self._recordings[size] = self._recorded(images, labels)
        kept_images, kept_labels, replay = self._recordings[size]
        kept_images.copy_(images)
        kept_labels.copy_(labels)
        numbers = torch.tensor([lam, lr, decay])
        if self._numbers.is_cuda:
            numbers = numbers.pin_memory()  # from pageable memory the copy would wait for the device
        self._numbers.copy_(numbers, non_blocking=True)
        replay()
        return True

    def _recorded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Callable[[], None]]:
        images, labels = images.clone(), labels.clone()
        lam, lr, decay = self._numbers.unbind()

        def step() -> None:
            with _rate_on_device(self._optimizer, lr):
                self._step(images, labels, lam, decay)

        return images, labels, self._record(step)


@contextmanager
def _rate_on_device(optimizer: Optimizer, lr: Tensor) -> Iterator[None]:
    """The learning rate as a tensor that a recording reads; the state that a checkpoint keeps stays a plain number.

    `capturable` only tells torch that this is meant: the state of fused kernels is on the device in any case.
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
