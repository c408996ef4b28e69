"""Measure how long the device waits for batches, without waiting for the device."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from hw1.config.recipe import DataConfig
from hw1.runtime.cpu import cores_per_process, default_num_workers

T = TypeVar("T")

WORTH_ADVICE = 0.05
"""Fraction of an epoch's training time from which on `advice` is printed."""


class DataTimer:
    """Sum up the time in which the device is idle because the next batch is not ready.

    On the CPU it is the time spent in the loader. On CUDA the host runs ahead of the device, so that its waiting says nothing about the
    device. Therefore two events are recorded in the stream that computes: one before a batch is requested, after all kernels of the
    previous step, and one when the batch is returned, after the stream's wait for the batch's copy. The first happens when the device has
    finished the step (at once if it is idle), the second when it can begin the next. The time between them is the device's waiting for the
    host or for the copy, and almost zero if the batch was ready. The events are read once both have happened.

    Args:
        device: Where training runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the same batches and measure the time that each takes."""
        iterator = iter(batches)
        while True:
            start, event = time.perf_counter(), self._record_event()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                if event is None:
                    self._seconds += time.perf_counter() - start
            if event is not None and (ready := self._record_event()) is not None:
                self._events.append((event, ready))
            yield batch

    def take(self) -> float:
        """Return the seconds of waiting since the last call; on CUDA, of the steps that the device has reached."""
        while self._events and self._events[0][1].query():  # type: ignore[no-untyped-call]  # torch has no types for it
            requested, ready = self._events.popleft()
            self._seconds += requested.elapsed_time(ready) / 1000
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _record_event(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it
        event.record(torch.cuda.current_stream(self._device))
        return event


def advice(config: DataConfig, device: torch.device) -> str | None:
    """Return settings that would shorten the waiting, None if there are none.

    On the CPU the model and the loader share the cores, so that more processes do not help. `data.cache` cannot change when a run is
    continued, `data.num_workers` can.

    Args:
        config: Section `data` of the recipe.
        device: Where training runs.
    """
    is_cpu, cores = device.type == "cpu", cores_per_process()
    workers = default_num_workers(device) if config.num_workers is None else config.num_workers
    settings = [f"data.num_workers={cores}"] if not is_cpu and workers < cores - 1 else []
    if config.cache == "none":
        settings.append("data.cache=disk")
    return " or ".join(settings) or None
