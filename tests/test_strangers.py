"""Files from strangers: no reader runs what is in them, takes more memory than they are large, or reads outside them."""

import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hw1.checkpoint import load_state, load_weights
from hw1.errors import UserError
from hw1.evaluate import load_predictions
from hw1.models.weights import WeightsError, read_state_dict

READERS: dict[str, Callable[[Path], Any]] = {
    "last.pt": load_state,
    "best.safetensors": load_weights,
    "weights.pth": read_state_dict,
    "weights.safetensors": read_state_dict,
    "predictions.npz": load_predictions,
}


def refused(path: Path) -> str:
    with pytest.raises((UserError, WeightsError)) as caught:
        READERS[path.name](path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


@pytest.mark.parametrize("kind", ["torch", "legacy", "plain", "tar", "numpy"])
def test_no_reader_runs_what_a_file_says(tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    for content in payloads(canary).values():
        data = pickled({"format": 1, "state_dict": content} if kind != "numpy" else content, kind)
        for name in READERS:
            for variant in (data, with_digest(data)):
                (tmp_path / name).write_bytes(variant)
                refused(tmp_path / name)
                assert not canary.exists()
    if kind == "plain":  # each of them is alive
        for content in payloads(canary).values():
            pickle.loads(pickle.dumps(content))
            assert canary.exists()
            canary.unlink()


def rewritten(path: Path, edit: Callable[[str, bytes], tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [edit(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)


def test_a_tensor_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.arange(1000.0)}, path)
    claim = b"J" + (2 * 10**9).to_bytes(4, "little")  # in place of 1000
    rewritten(path, lambda name, data: (name, data.replace(b"M\xe8\x03", claim)))
    refused(path)
    torch.save({"w": torch.arange(1000.0)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"M\xe8\x03", claim))
    refused(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Both would be 64 MiB from 64 KiB; nothing of that size is ever asked for."""
    weights, predictions = tmp_path / "weights.pth", tmp_path / "predictions.npz"
    torch.save({"w": torch.zeros(1 << 24)}, weights)
    rewritten(weights, lambda name, data: (name, data), zipfile.ZIP_DEFLATED)
    assert weights.stat().st_size < 1 << 17
    assert "is compressed" in refused(weights)
    np.savez_compressed(predictions, index=np.zeros(1 << 23))
    assert "is compressed" in refused(predictions)


def npy(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 4), (10**6, 10**6), (0, 2**62), (-1,), (3,)])
def test_predictions_that_claim_absurd_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("index", "logits", "labels", "files", "class_names"):
            archive.writestr(f"{name}.npy", npy(shape, b"12345678"))
    assert "claims" in refused(path)


def test_safetensors_that_claim_ten_terabytes_are_refused(tmp_path: Path) -> None:
    """safetensors compares offsets with the file's size, and the header's length with a limit, by itself."""
    size = 10 * 10**12
    for offsets, shape in (([0, size], [size // 4]), ([0, 8], [size // 4]), ([0, 8], [2**62, 2**62]), ([size, size + 8], [2])):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
        for name in ("best.safetensors", "weights.safetensors"):
            (tmp_path / name).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
            refused(tmp_path / name)
            (tmp_path / name).write_bytes(struct.pack("<Q", size) + header)
            refused(tmp_path / name)


@pytest.mark.parametrize("escape", ["../escaped", "/tmp/escaped", "archive/../../escaped"])
def test_archive_members_do_not_escape(tmp_path: Path, escape: str) -> None:
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    for name in ("weights.pth", "predictions.npz"):
        torch.save({"w": torch.zeros(4)}, folder / name)
        rewritten(folder / name, lambda own, data: (escape if own.endswith("data/0") else own, data))
        assert "outside" in refused(folder / name)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["predictions.npz", "weights.pth"]
