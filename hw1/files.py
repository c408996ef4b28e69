"""Writing files so that a reader, or a crash, never meets half of one."""

import os
import tempfile
from pathlib import Path

from hw1.errors import RunError


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file beside `path`, syncs it to disk and renames it into place.

    Whatever happens on the way, `path` holds either its old content or the new, and no temporary file stays behind.
    Raises `RunError` where the disk is full or the folder cannot be written to.
    """
    try:
        _write(path, data)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
