"""Write files and folders whole or not at all, also when the process or the machine stops half-way."""

import ctypes
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
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

LOCK, FORMER = "lock", "former"  # in a workbench, beside the new folder
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux' renameat2


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


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that holds these files, by name, and nothing else; see `replacing_folder`.

    Raises:
        RunError: It cannot be written.
    """
    with replacing_folder(path) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder for files that are meant as one; after the block, sync it to disk and put it in the place of `path`.

    `path` holds all of the old files or all of the new ones at any time. Where two folders cannot exchange their names at once (outside of
    Linux, on some network file systems) a process that is killed between two renames leaves no `path`, until the next call puts the old
    one back. What killed processes left beside `path` is removed by the next call. After an error `path` is as it was.

    Raises:
        RunError: It cannot be written; the message says what to do.
    """
    place = Path(os.path.realpath(path))  # a link stays a link
    try:
        with workbench(place) as bench:
            fresh = bench / "new"
            fresh.mkdir()
            yield fresh
            _sync_all(fresh)
            _put_in_place(fresh, place, bench / FORMER)
            sync_folder(place.parent)
    except OSError as error:
        raise _run_error(path, "written", error) from None


@contextmanager
def workbench(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside `path` for the block, and remove those that killed processes left there; the others are locked.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.new"):
        with suppress(OSError), open(left / LOCK, "ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its process still lives
            _clear(left, path)
    bench, lock = _claim(path)
    with lock:
        try:
            yield bench
        finally:
            _clear(bench, path)


def _claim(path: Path) -> tuple[Path, BinaryIO]:
    """Make a workbench and lock it; make another where a process has taken it for a remnant in between."""
    while True:
        bench = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        bench.mkdir()
        with suppress(FileNotFoundError, BlockingIOError):
            lock = open(bench / LOCK, "ab")  # noqa: SIM115 - the caller closes it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                return bench, lock  # a file system without locks
            if (bench / LOCK).exists():
                return bench, lock


def replace_files(folder: Path, files: Mapping[str, bytes], former: Iterable[str] = ()) -> None:
    """Write files that are meant as one into a folder of the user's, which may hold others; the last of them is the one that is opened.

    All are on disk before the first gets its name, so that a full disk changes nothing; only a process that is killed among the renames,
    which take milliseconds, leaves some of each, until the next call. What it left beside them is removed by the next call.

    Args:
        folder: It exists.
        files: Content by name.
        former: Names of files that are removed unless they are written.

    Raises:
        RunError: A file cannot be written.
    """
    try:
        with workbench(folder / list(files)[-1]) as bench:
            for name, content in files.items():
                (bench / name).write_bytes(content)
            _sync_all(bench)
            for name in files:
                os.replace(bench / name, folder / name)
            for name in former:
                if name not in files:
                    (folder / name).unlink(missing_ok=True)
            sync_folder(folder)
    except OSError as error:
        raise _run_error(folder, "written", error) from None


def _clear(bench: Path, path: Path) -> None:
    """Remove a workbench, and put back the folder that was to be replaced, if it lies there and `path` has no successor yet."""
    if (bench / FORMER).exists() and not os.path.lexists(path):
        os.rename(bench / FORMER, path)
    shutil.rmtree(bench, ignore_errors=True)


def _put_in_place(fresh: Path, path: Path, former: Path) -> None:
    if not os.path.lexists(path):
        os.rename(fresh, path)
    elif not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    elif not _exchange(fresh, path):
        os.rename(path, former)
        os.rename(fresh, path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; return False, with nothing done, where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # Linux, since glibc 2.28
    except (AttributeError, OSError):
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def _sync_all(folder: Path) -> None:
    """Write a folder and all in it to disk, and wait until it is there."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))
