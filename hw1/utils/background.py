"""One task at a time in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class Background:
    """Runs tasks one after the other beside the caller. What a task raises is raised where its result is next asked for, once."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._pending: Future[None] | None = None

    def start(self, task: Callable[[], None]) -> None:
        """Waits for the task under way, raises what it raised, then starts this one."""
        self.wait()
        self._pending = self._pool.submit(task)

    def check(self) -> None:
        """Raises what the task raised if it has ended; never waits."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the task under way and raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits for the task under way, whatever becomes of it; none can be started after."""
        with suppress(Exception):
            self.wait()
        self._pool.shutdown()
