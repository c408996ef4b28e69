"""Checkpoints: written whole or not at all, read without running any code from them, and refused where a single bit has changed."""

import errno
import hashlib
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from hw1.errors import UserError
from hw1.utils.files import keep_as, replacing, sync, write_atomic
from hw1.utils.safe_load import check_torch_file

FORMAT = 1
DIGEST_BYTES = 64  # SHA-256 in hexadecimal
ENDING = b"\0\0"  # of an archive without a comment: the comment's length
CHUNK_BYTES = 1 << 20


def save_state(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Saves tensors, numbers, strings, lists and dicts; `torch.load(path, weights_only=True)` reads them back.

    torch's zip archive ends with the SHA-256 of all before it, as the archive's comment: `torch.load` compares no checksum of its own.
    What is on disk is read back and compared before it takes the place of the former file, which becomes `previous`: one of the two is
    whole at every instant. Needs no memory of the state's size. Raises `RunError` where the file cannot be written.
    """
    with replacing(path) as file:
        digest = _write_state(file, {"format": FORMAT, **state})
        sync(file)
        if _digest_of(file) != digest:
            raise OSError(errno.EIO, "what was written does not read back the same")
        if previous is not None:
            keep_as(path, previous)


def _write_state(file: BinaryIO, state: Mapping[str, Any]) -> bytes:
    """Writes the archive and its comment; returns the digest."""
    hashed = _HashedFile(file)
    torch.save(state, hashed)  # type: ignore[arg-type]  # it asks for no more than write and flush
    hashed.finish()
    file.seek(-len(ENDING), io.SEEK_END)
    file.write(DIGEST_BYTES.to_bytes(len(ENDING), "little"))
    hashed.digest.update(DIGEST_BYTES.to_bytes(len(ENDING), "little"))
    digest = hashed.digest.hexdigest().encode()
    file.write(digest)
    return digest


class _HashedFile:
    """What torch writes an archive to: the digest is that of all but its last bytes, `ENDING`.

    The disk's error is raised by `finish`: torch would make another of it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._held = b""
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        view, keep = memoryview(data), len(ENDING)
        if len(view) < keep:
            view = memoryview(self._held + view)
        else:
            self.digest.update(self._held)
        self.digest.update(view[:-keep])
        self._held = bytes(view[-keep:])
        return len(data)

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        if self._error is not None:
            raise self._error
        if self._held != ENDING:
            raise ValueError("torch's archive does not end as expected")


def _digest_of(file: BinaryIO) -> bytes:
    """SHA-256 of all but the digest at the end, read from the disk where the system can be made to; the file is at its start after."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else it would come from memory
    left = file.seek(0, io.SEEK_END) - DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (data := file.read(min(left, CHUNK_BYTES))):
        digest.update(data)
        left -= len(data)
    file.seek(0)
    return digest.hexdigest().encode()


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote, to the CPU. `UserError` if the file is damaged, of another format or would run code."""
    try:
        with open(path, "rb") as file:
            digest = _digest_of(file)
            file.seek(-DIGEST_BYTES, io.SEEK_END)
            if file.read() != digest:
                raise ValueError("checksum does not match")
            file.seek(0)
            check_torch_file(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what torch raises
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({_first_line(error)})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: no checkpoint of this version (format {FORMAT})")
    return state


def load_newest(*paths: Path) -> tuple[dict[str, Any], list[str]]:
    """Reads the first of `paths` that is there and whole; with it, what is wrong with those before it, a line each.

    Raises `UserError` with all of these if none is.
    """
    problems: list[str] = []
    for path in paths:
        try:
            return load_state(path), problems
        except UserError as error:
            problems += error.problems if path.exists() else [f"{path}: no such file"]
    raise UserError(*problems)


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
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({_first_line(error)})") from None


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """SHA-256 of the meta data and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(dict(meta)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
