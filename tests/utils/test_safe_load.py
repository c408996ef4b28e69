"""Files from strangers: no reader runs what is in them, takes more memory than they are large, or reads outside them."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.hostile_files import READERS, npy, payloads, pickled, rewritten, with_digest

from hw1.errors import UserError
from hw1.models.weights import WeightsError


def refused(path: Path) -> str:
    with pytest.raises((UserError, WeightsError)) as caught:
        READERS[path.name](path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
