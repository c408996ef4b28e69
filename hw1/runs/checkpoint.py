"""Checkpoints: written whole or not at all, read without running any code from them, and refused where a single bit has changed."""

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
"""Formats that are read; 1 is version 0.1's, whose files carry their own digest."""
CHUNK_BYTES = 1 << 20


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save tensors, numbers, strings, lists and dicts; `torch.load(path, weights_only=True)` reads them back.

    The SHA-256 goes to a file beside it first, in the format of `sha256sum`: `torch.load` compares no checksum of its own. What is on
    disk is read back and compared before it gets its name. Needs no memory of the state's size.

    Raises:
        RunError: The file cannot be written.
    """
    with replacing(path) as file:
        hashed = _HashedFile(file)
        torch.save({"format": FORMAT, **state}, hashed)  # type: ignore[arg-type]  # it asks for no more than write and flush
        digest = hashed.finish()
        sync(file)
        if _digest_of(file) != digest:
            raise OSError(errno.EIO, "what was written does not read back the same")
        write_atomic(digest_file(path), f"{digest}  {path.name}\n".encode())


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, to the CPU.

    Raises:
        UserError: The file is missing, damaged, of another format, or would run code.
    """
    try:
        with open(path, "rb") as file:
            _compare_digest(path, file)
            check_torch_file(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what torch raises
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({first_line(error)})") from None
    if not isinstance(state, dict) or state.get("format") not in FORMATS:
        raise UserError(f"{path}: no checkpoint of this version (format {FORMAT})")
    return state


def load_newest(paths: Iterable[Path]) -> tuple[dict[str, Any], list[str]]:
    """Read the first state that is whole.

    Args:
        paths: Files of states, the newest first.

    Returns:
        The state, and what is wrong with each newer one, a line each.

    Raises:
        UserError: None of them is whole.
    """
    problems: list[str] = []
    for path in paths:
        try:
            return load_state(path), problems
        except UserError as error:
            problems += error.problems
    raise UserError(*problems)


def remove_state(path: Path) -> None:
    """Remove a state and its digest."""
    remove_file(path)
    remove_file(digest_file(path))


class _HashedFile:
    """A file for torch to write an archive to, which hashes it on the way.

    The disk's error is raised by `finish`: torch would turn it into another.
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
        """Return the SHA-256 of all that was written, in hexadecimal."""
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()


def _digest_of(file: BinaryIO, num_bytes: int | None = None) -> str:
    """Hash the file, or its first `num_bytes`, read from the disk where the system can be made to; leave it at its start."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else it would come from memory
    left = file.seek(0, io.SEEK_END) if num_bytes is None else num_bytes
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (data := file.read(min(left, CHUNK_BYTES))):
        digest.update(data)
        left -= len(data)
    file.seek(0)
    return digest.hexdigest()


def _compare_digest(path: Path, file: BinaryIO) -> None:
    """Raise `ValueError` where the file is not what was written; leave it at its start."""
    if digest_file(path).is_file():
        expected, found = digest_file(path).read_text().partition(" ")[0], _digest_of(file)
    else:  # version 0.1 kept the digest of all before it in the archive's comment, its last 64 bytes
        start = file.seek(0, io.SEEK_END) - 64
        file.seek(max(start, 0))
        expected = file.read().decode("ascii", "replace")
        found = _digest_of(file, start)
    if expected != found:
        raise ValueError("checksum does not match")


def save_weights(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Saves weights as safetensors; `meta` (JSON types) and a checksum go into the file's header.

    Raises `RunError` where the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = {"meta": dict(meta), "sha256": _digest(contiguous, meta)}
    write_atomic(path, safetensors.torch.save(contiguous, {"hw1": json.dumps(content)}))  # one entry: several come in random order


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_weights` wrote: (weights on the CPU, meta). `UserError` if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "hw1" not in header:
                raise ValueError("not written by hw1")
            content = json.loads(header["hw1"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if _digest(tensors, content["meta"]) != content["sha256"]:
            raise ValueError("checksum does not match")
        return tensors, content["meta"]
    except Exception as error:  # there is no end to what damaged bytes raise
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({first_line(error)})") from None


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """SHA-256 of the meta data and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(dict(meta)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
