"""How long the device waits for its batches, measured without waiting for the device."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from hw1.config.recipe import DataConfig
from hw1.runtime.cpu import cores_per_process, default_num_workers

T = TypeVar("T")

WORTH_ADVICE = 0.05
"""Share of an epoch's time."""


class DataTimer:
    """Adds up the time in which the device had nothing to do because the next batch was not there.

    On the CPU that is the time spent in asking for batches. On CUDA the host runs ahead of the device, and its own waiting says nothing: so
    two events go into the stream that computes, one when a batch is asked for, behind all kernels of the step before, and one when it
    is handed over, behind the stream's wait for the batch's copy. The first happens when the device has finished the step (at once, if it
    has run dry before), the second when it could begin the next: the time between them is the device's waiting, for the host or for the
    copy, and next to nothing where the batch was there in time. They are read when they have happened anyway.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, each waited for on the clock."""
        iterator = iter(batches)
        while True:
            asked, event = time.perf_counter(), self._event()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                if event is None:
                    self._seconds += time.perf_counter() - asked
            if event is not None:
                self._events.append((event, self._event()))  # type: ignore[arg-type]
            yield batch

    def take(self) -> float:
        """Seconds of waiting that became known since the last call: on CUDA, of the steps that the device has reached."""
        while self._events and self._events[0][1].query():
            asked, given = self._events.popleft()
            self._seconds += asked.elapsed_time(given) / 1000
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _event(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def advice(config: DataConfig, device: torch.device) -> str | None:
    """Settings that would shorten the waiting, None where there are none.

    On the CPU the model and the loader share the cores, and only less work helps. A continued run may have other processes, but no other
    cache.
    """
    is_cpu, cores = device.type == "cpu", cores_per_process()
    workers = default_num_workers(device) if config.num_workers is None else config.num_workers
    settings = [f"data.num_workers={cores}"] if not is_cpu and workers < cores - 1 else []
    if config.cache == "none":
        settings.append("data.cache=disk")
    return " or ".join(settings) or None
