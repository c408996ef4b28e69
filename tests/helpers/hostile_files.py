"""Files that are made to do harm when they are read."""

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw1.evaluation.predictions import load_predictions
from hw1.models.weights import read_weights
from hw1.runs.checkpoint import load_state, load_weights

READERS: dict[str, Callable[[Path], Any]] = {
    "last.pt": load_state,
    "best.safetensors": load_weights,
    "weights.pth": read_weights,
    "weights.safetensors": read_weights,
    "predictions.npz": load_predictions,
}


class Reduce:
    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self.parts


def payloads(canary: Path) -> dict[str, Any]:
    """Six ways in which unpickling touches the canary."""
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "call": Reduce(os.system, f"touch '{canary}'"),
        "eval": Reduce(eval, f"open({str(canary)!r}, 'w').close()"),
        "exec in a list": [1, {"deep": Reduce(exec, code)}],
        "method": Reduce(Path.touch, canary),
        "torch's own": Reduce(torch.utils.collect_env.run, f"touch '{canary}'")
        if hasattr(torch.utils, "collect_env")
        else Reduce(exec, code),
        "dictionary key": {Reduce(Path.write_text, canary, "sung"): torch.zeros(2)},
    }


def pickled(content: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "torch":
        torch.save(content, buffer)
    elif kind == "legacy":
        torch.save(content, buffer, _use_new_zipfile_serialization=False)
    elif kind == "plain":
        pickle.dump(content, buffer)
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            data = pickle.dumps(content)
            for name in ("pickle", "storages", "tensors"):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        array = np.empty(1, dtype=object)
        array[0] = content
        np.savez(buffer, index=array, logits=array, labels=array, files=array, class_names=array)
    return buffer.getvalue()


def with_digest(data: bytes) -> bytes:
    """As an attacker would: a checksum does not say who wrote a file."""
    data = data[:-2] + (64).to_bytes(2, "little")
    return data + hashlib.sha256(data).hexdigest().encode()


def rewritten(path: Path, edit: Callable[[str, bytes], tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [edit(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)


def npy(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data
