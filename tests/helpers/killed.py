"""A process of its own that is killed with SIGKILL before its n-th operation on a file: open for writing, rename, make or remove."""

import os
import signal
import sys
from typing import Any

OPERATIONS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "shutil.rmtree")


def die_before(count: int, folder: str) -> None:
    """Kill this process before the operation number `count` (from 1) on anything in `folder`, from now on."""
    left = count

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        is_operation = event in OPERATIONS or (event == "open" and isinstance(arguments[2], int))
        if is_operation and isinstance(arguments[0], str | bytes | os.PathLike) and os.fsdecode(arguments[0]).startswith(folder):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
