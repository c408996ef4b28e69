"""Writing files so that a reader, or a crash, never meets half of one."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hw1.errors import RunError

ADVICE = {
    errno.ENOSPC: "free some space there, then the same command continues",
    errno.EDQUOT: "free some of your quota there, then the same command continues",
    errno.EROFS: "make it writable, then the same command continues",
    errno.EACCES: "make it writable, then the same command continues",
    errno.EPERM: "make it writable, then the same command continues",
}


def cache_folder() -> Path:
    """Where what can be made again is kept, for this user: by the XDG base directory specification; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hw1")


def missing_file(key: str, path: str | None) -> list[str]:
    """Return what is wrong with the file that a recipe's key names: nothing where it is there, or where the key is null."""
    return [] if path is None or os.path.isfile(path) else [f"{key}: {path}: no such file"]


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Writes `data` as the whole content of `path`; see `replacing`."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, open for writing and reading, that is synced to disk and renamed into place after the block.

    Whatever happens on the way, `path` holds either its old content or the new. A temporary file stays behind only where the
    process is killed meanwhile (`remove_leftovers`). Raises `RunError`, with what to do, where the disk is full or the folder cannot be
    written to.
    """
    try:
        with atomic_file(path) as file:
            yield file
    except OSError as error:
        advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
        raise RunError(f"{path}: cannot be written: {error.strerror}{advice}") from None


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """`replacing` for those who have more to say of an error: those of the system are raised as they come."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # so that two writers do not share one
    try:
        with open(temporary, "x+b") as file:
            yield file
            sync(file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Makes renames in it last; some network file systems cannot, and their files are complete without."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_file(path: Path) -> None:
    """Remove a file that may be gone already.

    Raises:
        RunError: It is there and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be removed: {error.strerror}") from None


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed; only where no other process is writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


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
