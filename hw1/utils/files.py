"""Write files and folders whole or not at all, also when the process or the machine stops half-way."""

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
    """Return the user's folder for files that can be made again, by the XDG base directory specification; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hw1")


def missing_file(key: str, path: str | None) -> list[str]:
    """Return what is wrong with the file that a recipe's key names: nothing where it is there, or where the key is null."""
    return [] if path is None or os.path.isfile(path) else [f"{key}: {path}: no such file"]


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` as the whole content of `path`.

    Raises:
        RunError: The file cannot be written; see `replacing`.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing and reading; after the block, sync it to disk and rename it to `path`.

    `path` holds either its old content or the new one at any time. A temporary file stays behind only when the process is killed, see
    `remove_leftovers`.

    Raises:
        RunError: The disk is full or the folder cannot be written to; the message says what to do.
    """
    try:
        with atomic_file(path) as file:
            yield file
    except OSError as error:
        raise _run_error(path, "written", error) from None


def _run_error(path: Path, action: str, error: OSError) -> RunError:
    advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
    return RunError(f"{path}: cannot be {action}: {error.strerror}{advice}")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Do the same as `replacing`, but raise `OSError` as it comes, for callers with a message of their own."""
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
    """Write the file's buffers to disk and wait until they are there."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable; do nothing on network file systems that cannot, whose files are complete without it."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing, so that they are there after a crash of the machine too.

    Raises:
        OSError: As it comes.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def remove_file(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        RunError: It exists and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _run_error(path, "removed", error) from None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Call only while no other process writes to the folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder with a hidden name beside `path`; after the block, rename it to `path`, which may exist and is replaced.

    After an error the new folder is removed and `path` is unchanged. A process that is killed leaves the hidden folder behind.

    Raises:
        OSError: As it comes.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    former = temporary.with_name(f"{temporary.name}-former")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.rename(path, former)  # there is no portable call that exchanges two folders at once
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
    shutil.rmtree(former, ignore_errors=True)
