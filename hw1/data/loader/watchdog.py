"""Kill loader processes that hang. torch notices a process that died, but would wait for ever for one that lives and does nothing."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PATIENCE_SECONDS = 120
STOPPING_SECONDS = 10
"""Once the run was asked to stop: what asks, a batch system for instance, kills the run half a minute later."""


class Watchdog:
    """Kill all processes once a batch has been waited for too long.

    The limit is `PATIENCE_SECONDS` and `per_batch` seconds more, or `STOPPING_SECONDS` while the run is stopping. Only seconds in which
    this process ran itself count: a run that was suspended as a whole, by Ctrl-Z for instance, does not count as hanging when it goes on.

    Args:
        processes: The loader processes.
        per_batch: Seconds that loading a batch may take.
        is_stopping: Returns whether the run was asked to stop.
    """

    def __init__(self, processes: Sequence[multiprocessing.process.BaseProcess], per_batch: float, is_stopping: Callable[[], bool]) -> None:
        self.seconds = round(PATIENCE_SECONDS + per_batch)
        self.has_killed = False
        self._processes = processes
        self._is_stopping = is_stopping
        self._num_changes = 0  # of waiting and not waiting: odd while a batch is waited for
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="loader watch", daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting for a batch."""
        self._num_changes += 1
        try:
            yield
        finally:
            self._num_changes += 1

    def close(self) -> None:
        """End the watching."""
        self._closed.set()

    def _watch(self) -> None:
        previous, seconds = 0, 0
        while not self._closed.wait(1.0):
            current = self._num_changes
            seconds = seconds + 1 if current % 2 and current == previous else 0
            previous = current
            if seconds >= (min(STOPPING_SECONDS, self.seconds) if self._is_stopping() else self.seconds):
                self.has_killed = True
                for process in self._processes:
                    process.kill()
                return
