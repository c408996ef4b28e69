"""Keep several processes from doing the same work at once."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the exclusive lock of a file during the block.

    The system releases it however the process ends. A process that is forked in the block holds it too, until it ends.

    Args:
        path: The lock file. It and its folder are created where they are missing; it stays, empty.
        on_wait: Called once if another process holds the lock.

    Raises:
        OSError: The file cannot be created, or the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
