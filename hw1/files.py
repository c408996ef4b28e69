"""Writing files so that a reader, or a crash, never meets half of one."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hw1.errors import RunError


def cache_folder() -> Path:
    """Where what can be made again is kept, for this user: by the XDG base directory specification; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hw1")


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Writes `data` to a temporary file beside `path`, syncs it to disk and renames it into place.

    Whatever happens on the way, `path` holds either its old content or the new. A temporary file stays behind only where the
    process is killed meanwhile (`remove_leftovers`). Raises `RunError` where the disk is full or the folder cannot be written to.
    """
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed; only where no other process is writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to be written, under a temporary name beside `path`; at the end it is synced to disk and renamed into place.

    After an error it is removed. Errors of the system are raised as they come.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # so that two writers do not share one
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some network file systems cannot sync a folder; the file itself is complete
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to be filled, under a hidden name beside `path`; at the end it takes the place of `path`, which may be there already.

    After an error it is removed and `path` is as it was. A process killed meanwhile leaves the hidden folder. Errors of the system are
    raised as they come.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    former = temporary.with_name(f"{temporary.name}-former")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.rename(path, former)  # no call exchanges two folders at once everywhere
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(former, ignore_errors=True)
