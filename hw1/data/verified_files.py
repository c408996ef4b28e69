"""The memory of files that were found good: one JSON file in the user's cache folder. No torch; no image is opened here.

It only saves time: lost, torn or unwritable, the files are read again.
"""

import contextlib
import json
import os
from pathlib import Path

from hw1.errors import RunError
from hw1.utils.files import cache_folder, write_atomic

Stamp = list[int]  # size, bytes, and time of the last change, ns


def take_stamp(path: str) -> Stamp | None:
    """None for a file that is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def load_verified(checked_by: str) -> dict[str, Stamp]:
    """Absolute path -> stamp of the files that were good; nothing if the memory is missing, torn or of another `checked_by`."""
    try:
        memory = json.loads(_verified_file().read_bytes())
        return dict(memory["files"]) if memory["checked_by"] == checked_by else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def save_verified(checked_by: str, good: dict[str, Stamp]) -> None:
    """Adds `good` to the memory and drops the files of folders, and of archives, that are gone.

    Of two processes that save at once one may be forgotten.
    """
    files = {**load_verified(checked_by), **good}
    is_there = {folder: _is_there(folder) for folder in {os.path.dirname(path) for path in files}}
    files = {path: stamp for path, stamp in files.items() if is_there[os.path.dirname(path)]}
    memory = _verified_file()
    with contextlib.suppress(OSError, RunError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memory, json.dumps({"checked_by": checked_by, "files": files}).encode())


def _is_there(folder: str) -> bool:
    """Whether there is such a folder, or such an archive, in which it is one."""
    return os.path.isdir(folder) or any(place.is_file() for place in (Path(folder), *Path(folder).parents))


def _verified_file() -> Path:
    return cache_folder() / "checked_images.json"
