"""Checkpoints: written whole or not at all, loaded without running code from them, and refused if a single bit has changed."""

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from hw1.errors import UserError
from hw1.runs.folder import digest_file
from hw1.utils.files import remove_file, replacing, sync, write_atomic
from hw1.utils.safe_load import check_torch_file
from hw1.utils.text import first_line

FORMAT = 2
FORMATS = (1, FORMAT)
"""Formats that can be loaded; 1 is that of version 0.1, whose files contain their digest."""
CHUNK_BYTES = 1 << 20


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save a state so that `torch.load(path, weights_only=True)` reads it back.

    The SHA-256 is written to a file beside it first, in the format of `sha256sum`, because `torch.load` compares no checksum. The file is
    read back from disk and compared before it gets its name. No copy of the state is made in memory.

    Args:
        path: File to write.
        state: Tensors, numbers, strings, lists and dicts.

    Raises:
        RunError: The file cannot be written.
    """
    with replacing(path) as file:
        hashed = _HashedFile(file)
        torch.save({"format": FORMAT, **state}, hashed)  # type: ignore[arg-type]  # it needs only write and flush
        digest = hashed.finish()
        sync(file)
        if _hash_file(file) != digest:
            raise OSError(errno.EIO, "what was written does not read back the same")
        write_atomic(digest_file(path), f"{digest}  {path.name}\n".encode())


def load_state(path: Path) -> dict[str, Any]:
    """Load a file of `save_state`, with tensors on the CPU.

    Raises:
        UserError: The file is missing, damaged, of another format, or would run code.
    """
    try:
        with open(path, "rb") as file:
            _compare_digest(path, file)
            check_torch_file(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch may raise anything for a damaged file
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({first_line(error)})") from None
    if not isinstance(state, dict) or state.get("format") not in FORMATS:
        raise UserError(f"{path}: no checkpoint of this version (format {FORMAT})")
    return state


def load_newest(paths: Iterable[Path]) -> tuple[dict[str, Any], list[str]]:
    """Load the first state that is undamaged.

    Args:
        paths: Files of states, the newest first.

    Returns:
        The state, and what is wrong with each newer one, a line each.

    Raises:
        UserError: All of them are damaged.
    """
    problems: list[str] = []
    for path in paths:
        try:
            return load_state(path), problems
        except UserError as error:
            problems += error.problems
    raise UserError(*problems)


def remove_state(path: Path) -> None:
    """Remove a state and the file of its digest.

    Raises:
        RunError: A file cannot be removed.
    """
    remove_file(path)
    remove_file(digest_file(path))


class _HashedFile:
    """A file that hashes what torch writes to it.

    An error of the disk is raised by `finish`, because torch would replace it by another error.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def finish(self) -> str:
        """Return the SHA-256 of all data in hexadecimal; raise the first `OSError` of a write."""
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()


def _hash_file(file: BinaryIO, num_bytes: int | None = None) -> str:
    """Hash the file, or its first `num_bytes`, read from the disk where the system supports it, and rewind it."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else it would be read from memory
    remaining = file.seek(0, io.SEEK_END) if num_bytes is None else num_bytes
    file.seek(0)
    digest = hashlib.sha256()
    while remaining > 0 and (data := file.read(min(remaining, CHUNK_BYTES))):
        digest.update(data)
        remaining -= len(data)
    file.seek(0)
    return digest.hexdigest()


def _compare_digest(path: Path, file: BinaryIO) -> None:
    """Raise `ValueError` if the file is not what was written, else rewind it."""
    if digest_file(path).is_file():
        expected, actual = digest_file(path).read_text().partition(" ")[0], _hash_file(file)
    else:  # version 0.1: the digest of all bytes before it is the archive's comment, the last 64 bytes of the file
        start = file.seek(0, io.SEEK_END) - 64
        file.seek(max(start, 0))
        expected = file.read().decode("ascii", "replace")
        actual = _hash_file(file, start)
    if expected != actual:
        raise ValueError("checksum does not match")


def save_weights(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Save weights as safetensors.

    Args:
        path: File to write.
        tensors: By name, on any device.
        meta: JSON types, stored in the file's header together with a checksum.

    Raises:
        RunError: The file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = {"meta": dict(meta), "sha256": _hash_weights(contiguous, meta)}
    write_atomic(
        path, safetensors.torch.save(contiguous, {"hw1": json.dumps(content)})
    )  # one entry: safetensors writes several in random order


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load a file of `save_weights`.

    Returns:
        Weights on the CPU, and `meta`.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "hw1" not in header:
                raise ValueError("not written by hw1")
            content = json.loads(header["hw1"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if _hash_weights(tensors, content["meta"]) != content["sha256"]:
            raise ValueError("checksum does not match")
        return tensors, content["meta"]
    except Exception as error:  # damaged bytes may raise anything
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({first_line(error)})") from None


def _hash_weights(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the meta data and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(dict(meta)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
