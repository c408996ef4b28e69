"""Ends loader processes that hang: torch notices that one has died, and would wait for ever for one that lives and does nothing."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PATIENCE_SECONDS = 120
STOPPING_SECONDS = 10
"""All the patience there is once the run was asked to stop: who asks, a batch system for instance, kills it half a minute later."""


class Watchdog:
    """Kills all `processes` once a batch has been waited for during `PATIENCE_SECONDS` and `per_batch` seconds more, or during
    `STOPPING_SECONDS` while `is_stopping` says so.

    It counts seconds that it was awake itself: a run that was stopped as a whole, by Ctrl-Z for instance, hangs no longer when it goes on.
    """

    def __init__(self, processes: Sequence[multiprocessing.process.BaseProcess], per_batch: float, is_stopping: Callable[[], bool]) -> None:
        self.seconds = round(PATIENCE_SECONDS + per_batch)
        self.has_killed = False
        self._processes = processes
        self._is_stopping = is_stopping
        self._turn = 0  # odd while a batch is waited for
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="loader watch", daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block waits for a batch."""
        self._turn += 1
        try:
            yield
        finally:
            self._turn += 1

    def close(self) -> None:
        self._closed.set()

    def _look(self) -> None:
        seen, seconds = 0, 0
        while not self._closed.wait(1.0):
            turn = self._turn
            seconds = seconds + 1 if turn % 2 and turn == seen else 0
            seen = turn
            if seconds >= (min(STOPPING_SECONDS, self.seconds) if self._is_stopping() else self.seconds):
                self.has_killed = True
                for process in self._processes:
                    process.kill()
                return
