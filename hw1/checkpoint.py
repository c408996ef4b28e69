"""Checkpoints: written whole or not at all, read without running any code from them."""

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hw1.errors import UserError
from hw1.files import write_atomic

FORMAT = 1


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Saves tensors, numbers, strings, lists and dicts; `torch.load(path, weights_only=True)` reads them back."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote, to the CPU. `UserError` if the file is damaged or of another format."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged, cannot be continued from ({_first_line(error)}); --overwrite starts over") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: no checkpoint of this version (format {FORMAT})")
    return state


def save_weights(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Saves weights as safetensors; `meta` (JSON types) goes into the file's header."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, safetensors.torch.save(contiguous, {"hw1": json.dumps(dict(meta))}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_weights` wrote: (weights on the CPU, meta). `UserError` if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["hw1"])
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged, or no checkpoint of this program ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
