"""Remember which files were decoded without error, in one JSON file in the user's cache folder. No torch; no image is opened here.

The record only saves time: if it is lost, torn or cannot be written, the files are decoded again.
"""

import contextlib
import json
import os
from pathlib import Path

from hw1.errors import RunError
from hw1.utils.files import cache_folder, write_atomic

Stamp = list[int]
"""Size in bytes, and time of the last change in ns."""


def take_stamp(path: str) -> Stamp | None:
    """Return the stamp of a file, None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def load_verified(checked_by: str) -> dict[str, Stamp]:
    """Return the stamps of the verified files by absolute path; nothing if the record is missing, torn or of another `checked_by`."""
    try:
        record = json.loads(_record_path().read_bytes())
        return dict(record["files"]) if record["checked_by"] == checked_by else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def save_verified(checked_by: str, verified: dict[str, Stamp]) -> None:
    """Add `verified` to the record, and drop the files of folders and archives that no longer exist.

    If two processes save at once, what one of them adds may be lost.
    """
    files = {**load_verified(checked_by), **verified}
    exists = {folder: _exists(folder) for folder in {os.path.dirname(path) for path in files}}
    files = {path: stamp for path, stamp in files.items() if exists[os.path.dirname(path)]}
    path = _record_path()
    with contextlib.suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"checked_by": checked_by, "files": files}).encode())


def _exists(folder: str) -> bool:
    """Check for a folder, or for an archive of which it is a part: one of the path's parents is then a file."""
    return os.path.isdir(folder) or any(path.is_file() for path in (Path(folder), *Path(folder).parents))


def _record_path() -> Path:
    return cache_folder() / "checked_images.json"
