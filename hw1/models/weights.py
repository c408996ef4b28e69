"""Read weights from any checkpoint that holds them, without running code from it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from hw1.utils.safe_load import Skipped, load_torch_file
from hw1.utils.text import one_line, some_of

NUM_NAMED = 4  # keys that a message names; the rest are counted
MAX_NAME = 300  # characters

KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params", "teacher", "student", "module"),
)
"""Where training programs keep the weights in a checkpoint; the first that the file has is taken, averaged ones before others."""

OTHER_KINDS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself, which `git lfs pull` fetches",
    b"<": "is a web page or XML, not what was to be downloaded",
    b"\x89HDF": "is HDF5 (Keras), not of torch.save",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
}
"""What a file is that begins with these bytes."""


class WeightsError(RuntimeError):
    """A state dict does not fit the model, or a file holds none; the message is one line."""


class Weights(NamedTuple):
    """What a file holds."""

    state_dict: dict[str, Tensor]
    """Tensors by name, as in the file."""
    taken_from: str
    """Where in the file they are: keys, joined by dots; "" for a file of nothing else."""

    def describe(self) -> str:
        """Return what the file holds, for a message."""
        names = some_of(self.state_dict, NUM_NAMED)
        return f"the file holds {len(self.state_dict)} tensors{f' in {self.taken_from}' if self.taken_from else ''}: {names}"


def read_weights(path: Path) -> Weights:
    """Read the weights in a file of safetensors or of `torch.save`, whatever it is named, without running code from it.

    A training checkpoint may hold anything beside them. They are looked for under `KEYS`, then under any other key if there is but one
    that holds tensors by name.

    Raises:
        WeightsError: The file is missing, or no file of weights; the message says what it is or holds.
    """
    if not path.is_file():
        raise WeightsError("no such file" if not path.exists() else "not a file")
    content = _read(path)
    found = _find_weights(content)
    if found is None:
        raise WeightsError(f"holds {_describe(content)}, but no weights by name; torch.save(model.state_dict(), FILE) writes them")
    keys, state_dict = found
    tensors = {name: value for name, value in state_dict.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any(len(name) > MAX_NAME or not name.isprintable() for name in [*tensors, *keys]):
        raise WeightsError("holds tensors under names that no model has")
    return Weights(tensors, ".".join(keys))


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise WeightsError("is empty")
    is_torch = head.startswith((b"PK", b"\x80"))
    try:
        if head[8:9] == b"{" or (path.suffix == ".safetensors" and not is_torch):  # its header is JSON after eight bytes of length
            return safetensors.torch.load_file(path)
        return load_torch_file(path)
    except Exception as error:  # a damaged or foreign file may raise anything
        for start, kind in OTHER_KINDS.items():
            if head.startswith(start):
                raise WeightsError(kind) from error
        if not (is_torch or head[8:9] == b"{"):
            raise WeightsError(f"not a .safetensors or .pth file of weights; it begins with {head[:16]!r}") from error
        if type(error) is ValueError:  # of load_torch_file, which has found out what it is
            raise WeightsError(str(error)) from error
        if head.startswith(b"PK") and not zipfile.is_zipfile(path):  # an archive's list of contents is at its end
            raise WeightsError("is cut short, as by a download that has not finished") from error
        raise WeightsError(f"damaged, or no file of weights ({one_line(error)})") from error


def _find_weights(content: Any, depth: int = 3) -> tuple[list[str], Mapping[Any, Any]] | None:
    """Return the keys under which the weights are, and the dict that holds them; None if there are none."""
    if not isinstance(content, dict) or not depth:
        return None
    for key in KEYS:
        if found := _find_weights(content.get(key), depth - 1):
            return [key, *found[0]], found[1]
    if _has_tensors(content):
        return [], content
    others = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, dict) and _has_tensors(value)]
    return (others, content[others[0]]) if len(others) == 1 else None


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _describe(content: Any) -> str:
    """Say what a file without weights holds, and what to do where that is known."""
    if not isinstance(content, dict):
        return _kind(content)
    return some_of([f"{str(key)[:MAX_NAME]} ({_kind(value)})" for key, value in content.items()] or ["nothing"], 2 * NUM_NAMED)


def _kind(value: Any) -> str:
    if isinstance(value, Skipped):
        return "numpy array" if value.kind.endswith(".multiarray._reconstruct") else f"object of {value.kind}"
    return type(value).__name__
