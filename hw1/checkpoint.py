"""Checkpoints: written whole or not at all, read without running any code from them, and refused where a single bit has changed."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from hw1.errors import UserError
from hw1.files import write_atomic

FORMAT = 1
DIGEST_BYTES = 64  # SHA-256 in hexadecimal


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Saves tensors, numbers, strings, lists and dicts; `torch.load(path, weights_only=True)` reads them back.

    torch's zip archive ends with the SHA-256 of all before it, as the archive's comment: `torch.load` compares no checksum of its own.
    Raises `RunError` where the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    buffer.seek(-2, io.SEEK_END)  # an archive without a comment ends with its length, 0
    buffer.write(DIGEST_BYTES.to_bytes(2, "little"))
    buffer.write(hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_atomic(path, buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote, to the CPU. `UserError` if the file is damaged, of another format or would run code."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(memoryview(data)[:-DIGEST_BYTES]).hexdigest().encode() != data[-DIGEST_BYTES:]:
            raise ValueError("checksum does not match")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what torch raises
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({_first_line(error)}); --overwrite starts over") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: no checkpoint of this version (format {FORMAT}); --overwrite starts over")
    return state


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
