"""A process of its own that is killed with SIGKILL before its n-th operation on files: open, rename, make, remove."""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "shutil.rmtree")


def die_before(count: int, folder: str) -> None:
    """Kill this process before operation number `count` (from 1) on anything in `folder`, from now on."""
    left = count

    def act() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    _before_operations(folder, act)


def count_operations(path: str, folder: str) -> None:
    """Write to `path`, at the end of the process, how many operations `die_before` can be given."""
    num, owner = 0, os.getpid()

    def act() -> None:
        nonlocal num
        num += 1

    _before_operations(folder, act)
    atexit.register(lambda: os.getpid() == owner and Path(path).write_text(str(num)))


def _before_operations(folder: str, act: Callable[[], None]) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and isinstance(arguments[0], str | bytes | os.PathLike) and os.fsdecode(arguments[0]).startswith(folder):
            act()

    sys.addaudithook(hook)
