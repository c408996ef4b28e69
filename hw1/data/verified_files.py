"""Remember which files were decoded without error, and what they hold, in the user's cache folder. No torch; no image is opened here.

The records (JSON files) only save time: if one is lost, torn or cannot be written, the files are read again.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw1.errors import RunError
from hw1.utils.files import cache_folder, write_atomic

Stamp = list[int]
"""Size in bytes, time of the last change in ns, inode, time of the inode's last change in ns: files that change places keep the first two.

Of an image in an archive, what its format tells.
"""

VERIFIED = "checked_images.json"


def take_stamp(path: str) -> Stamp | None:
    """Return the stamp of a file, None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def load_verified(checked_by: str) -> dict[str, Stamp]:
    """Return the stamps of the verified files by absolute path; nothing if the record is missing, torn or of another `checked_by`."""
    return load_record(VERIFIED, checked_by)


def save_verified(checked_by: str, verified: dict[str, Stamp]) -> None:
    """Add `verified` to the record; see `save_record`."""
    save_record(VERIFIED, checked_by, verified)


def load_record(name: str, made_by: str) -> dict[str, Any]:
    """Return what is remembered of files by absolute path; nothing if the record is missing, torn or of another `made_by`.

    Args:
        name: Name of the record's file.
        made_by: What decides on the content beside the files themselves.
    """
    try:
        record = json.loads(_record_path(name).read_bytes())
        return dict(record["files"]) if record["checked_by"] == made_by else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def save_record(name: str, made_by: str, content: Mapping[str, Any]) -> None:
    """Add `content` to the record, and drop the files of folders and archives that no longer exist.

    If two processes save at once, what one of them adds may be lost.
    """
    files = {**load_record(name, made_by), **content}
    exists = {folder: _exists(folder) for folder in {os.path.dirname(path) for path in files}}
    files = {path: value for path, value in files.items() if exists[os.path.dirname(path)]}
    path = _record_path(name)
    with contextlib.suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"checked_by": made_by, "files": files}).encode())


def _exists(folder: str) -> bool:
    """Check for a folder, or for an archive of which it is a part: one of the path's parents is then a file."""
    return os.path.isdir(folder) or any(path.is_file() for path in (Path(folder), *Path(folder).parents))


def _record_path(name: str) -> Path:
    return cache_folder() / name
