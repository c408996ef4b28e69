"""Run one task at a time in a background thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class Background:
    """Run tasks one after the other in a thread.

    The exception of a task is raised once, by the next call of a method that can raise it.

    Args:
        name: Prefix of the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._pending: Future[None] | None = None

    def start(self, task: Callable[[], None]) -> None:
        """Wait for the running task, raise its exception if it failed, then start this one."""
        self.wait()
        self._pending = self._pool.submit(task)

    def check(self) -> None:
        """Raise the exception of the task if it has failed; never wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the running task and raise its exception if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the running task, ignore its exception and end the thread; no task can be started afterwards."""
        with suppress(Exception):
            self.wait()
        self._pool.shutdown()
