"""Files from strangers: no reader runs what is in them, takes more memory than they are large, or reads outside them."""

import hashlib
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
from hw1.utils.safe_load import MAX_DERIVED


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


@pytest.mark.parametrize("kind", ["torch", "legacy"])
def test_code_beside_real_weights_is_not_run(tmp_path: Path, kind: str) -> None:
    """Built-in functions are refused by name; what else there is stays a name, whatever is filled into it or called with it."""
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    for what, content in payloads(canary).items():
        path.write_bytes(pickled({"state_dict": {"w": torch.ones(2)}, "args": content}, kind))
        if what == "torch's own":
            assert list(READERS[path.name](path).state_dict) == ["w"]
        else:
            assert "which runs code" in refused(path)
        assert not canary.exists()


def test_more_classes_than_a_program_has_are_refused(tmp_path: Path) -> None:
    """Each costs another try, so that a small file could take hours."""
    classes = [type(f"Own{i}", (dict,), {"__module__": __name__}) for i in range(MAX_DERIVED + 1)]
    globals().update({each.__name__: each for each in classes})
    for number in (MAX_DERIVED, MAX_DERIVED + 1):
        torch.save({"model": {"w": torch.ones(2)}, "own": [each(a=1) for each in classes[:number]]}, tmp_path / "weights.pth")
        if number == MAX_DERIVED:
            assert list(READERS["weights.pth"](tmp_path / "weights.pth").state_dict) == ["w"]
        else:
            assert "more than 20 classes" in refused(tmp_path / "weights.pth")


def test_what_else_a_state_holds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"format": 2, "path": Path("x"), "number": np.float64(1)}, path)
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  last.pt\n")
    assert "holds numpy._core.multiarray.scalar, pathlib." in refused(path)


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
