"""Checkpoints: what comes back, and what damaged, foreign and hostile files do (nothing)."""

import contextlib
import hashlib
import json
import pickle
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from hw1.errors import RunError, UserError
from hw1.runs.checkpoint import load_state, load_weights, save_state, save_weights


def some_model() -> torch.nn.Module:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(36, 2))
    return model.to(memory_format=torch.channels_last)


def full_state() -> dict[str, Any]:
    """All that a training saves: nested dicts, lists and tuples, every kind of number, text of any script."""
    moments = {n: {"step": torch.tensor(7.0), "exp_avg": torch.randn(4, 3, 2)} for n in range(2)}
    return {
        "model": dict(some_model().state_dict()),
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.96), "fused": None, "params": [0, 1]}]},
        "schedule": {"best": 0.1, "num_bad_epochs": 2, "mode": "min", "_last_lr": [1e-4]},
        "scaler": torch.amp.GradScaler("cpu", enabled=True).state_dict(),
        "ema": None,
        "rng": {"cpu": torch.get_rng_state(), "cuda": []},
        "sums": torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64),
        "half": torch.randn(3).to(torch.bfloat16),
        "progress": {"epoch": 3, "best_loss": float("inf"), "best_top1": -1.0},
        "classes": ["0", "1", "näpf", "猫", ""],
        "wandb_id": "abc",
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert (type(a), len(a)) == (type(b), len(b))
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert (type(a), a) == (type(b), b)


def mistake(load, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert "\n" not in problem
    return problem


# ---------------------------------------------------------------------------------------------------------------- state


def test_a_state_comes_back_whole(tmp_path):
    state = full_state()
    save_state(tmp_path / "last.pt", state)
    again = load_state(tmp_path / "last.pt")
    assert again.pop("format") == 2
    assert_same(again, state)
    some_model().load_state_dict(again["model"])


def test_a_state_is_read_by_torch_itself(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, full_state())
    for options in ({}, {"mmap": True}):
        state = torch.load(path, weights_only=True, **options)
        assert state["progress"] == {"epoch": 3, "best_loss": float("inf"), "best_top1": -1.0}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_saving_does_not_need_a_contiguous_or_detached_tensor(tmp_path):
    parameter = torch.nn.Parameter(torch.randn(4, 6))
    save_state(tmp_path / "a", {"p": parameter, "t": parameter.t()[1:]})
    state = load_state(tmp_path / "a")
    assert torch.equal(state["p"], parameter)
    assert torch.equal(state["t"], parameter.t()[1:])


def test_a_cut_state_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, full_state())
    data = path.read_bytes()
    for length in (0, 1, 4, 63, 64, 65, len(data) // 2, len(data) - 64, len(data) - 1):
        path.write_bytes(data[:length])
        assert "damaged" in mistake(load_state, path)
    path.write_bytes(data + b"\0")
    mistake(load_state, path)
    path.write_bytes(data)
    load_state(path)


def test_a_single_changed_bit_is_refused(tmp_path):
    """torch.load itself reads most such files without a word, and trains on."""
    path = tmp_path / "last.pt"
    save_state(path, {"w": torch.randn(100, 100)})
    data = bytearray(path.read_bytes())
    unnoticed = 0
    rng = random.Random(0)
    for _ in range(60):
        bit = rng.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert "checksum" in mistake(load_state, path)
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=True)
            unnoticed += 1
        data[bit // 8] ^= 1 << bit % 8
    assert unnoticed > 40


def test_the_digest_is_one_that_sha256sum_checks(tmp_path):
    save_state(tmp_path / "state.pt", full_state())
    done = subprocess.run(["sha256sum", "--check", "state.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "state.pt: OK\n")


def test_a_state_of_version_0_1_is_read(tmp_path):
    """It ends with its own digest, as the archive's comment."""
    path = tmp_path / "last.pt"
    torch.save({"format": 1, **full_state()}, path)
    data = path.read_bytes()[:-2] + (64).to_bytes(2, "little")
    whole = data + hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(whole)
    assert_same(load_state(path)["model"], dict(some_model().state_dict()))
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    assert "checksum" in mistake(load_state, path)


# ------------------------------------------------------------------------------------------------- foreign and hostile


class Canary:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sung")


def with_digest(path: Path) -> None:
    """What an attacker would do too: a checksum says nothing of who wrote the file."""
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def test_a_file_that_would_run_code_is_refused_unread(tmp_path):
    path, canary = tmp_path / "last.pt", tmp_path / "canary"
    torch.save({"format": 1, "model": Canary(canary)}, path)
    mistake(load_state, path)
    with_digest(path)
    assert "runs code; it is not loaded" in mistake(load_state, path)
    path.write_bytes(pickle.dumps(Canary(canary)))
    mistake(load_state, path)
    mistake(load_weights, path)
    torch.save(Canary(canary), path, _use_new_zipfile_serialization=False)
    mistake(load_state, path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # the canary is alive
    assert canary.exists()


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    for content in ({"state_dict": {}}, {"format": 3}, [1, 2], torch.zeros(3)):
        torch.save(content, path)
        mistake(load_state, path)
        with_digest(path)
        assert "no checkpoint of this version (format 2)" in mistake(load_state, path)
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    assert "not written by hw1" in mistake(load_weights, path)
    mistake(load_state, path)
    for content in (b"", b"PK\3\4", b"\x80\x02.", b"{}", b"\0" * 1000, b"\xff" * 200):
        path.write_bytes(content)
        mistake(load_state, path)
        mistake(load_weights, path)


def test_a_missing_file_or_a_folder_is_the_users_mistake(tmp_path):
    for path in (tmp_path / "gone", tmp_path):
        mistake(load_state, path)
        mistake(load_weights, path)


def test_a_file_that_cannot_be_written_is_a_run_error(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        save_state(tmp_path / "gone/last.pt", {})
    with pytest.raises(RunError, match="cannot be written"):
        save_weights(tmp_path / "gone/best.safetensors", {}, {})


# -------------------------------------------------------------------------------------------------------------- weights

META = {"classes": ["0", "1", "näpf", "猫", ""], "epoch": 3, "val_top1": 1 / 3, "nothing": None}


def some_weights() -> dict[str, torch.Tensor]:
    kinds = {"bf16": torch.randn(3).to(torch.bfloat16), "bool": torch.tensor([True, False]), "empty": torch.zeros(0, 3)}
    return {
        **some_model().state_dict(),
        **kinds,
        "scalar": torch.tensor(7),
        "slice": torch.randn(4, 6).t()[1:],
        "f64": torch.randn(2).double(),
    }


def test_weights_and_meta_come_back(tmp_path):
    path = tmp_path / "best.safetensors"
    weights = some_weights()
    save_weights(path, weights, META)
    again, meta = load_weights(path)
    assert meta == META
    assert again.keys() == weights.keys()
    for name, tensor in again.items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name])


def test_weights_are_read_by_safetensors_itself(tmp_path):
    path = tmp_path / "best.safetensors"
    weights = {"w": torch.randn(3, 4).to(memory_format=torch.contiguous_format), "n": torch.tensor(7)}
    save_weights(path, weights, META)
    assert_same(safetensors.torch.load_file(path), {"n": weights["n"], "w": weights["w"]})
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["hw1"])["meta"] == META


def test_a_single_changed_bit_or_a_cut_in_weights_is_refused(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(path, {"weight": torch.randn(4, 3), "bias": torch.zeros(4)}, META)
    data = bytearray(path.read_bytes())
    for bit in range(0, len(data) * 8, 23):  # names, shapes, class names, numbers
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        mistake(load_weights, path)
        data[bit // 8] ^= 1 << bit % 8
    for length in (0, 7, 8, 9, 100, len(data) - 1):
        path.write_bytes(data[:length])
        mistake(load_weights, path)
    path.write_bytes(data)
    load_weights(path)


def test_swapped_weights_are_refused(tmp_path):
    """The checksum covers which tensor is which, not only the bytes."""
    path = tmp_path / "best.safetensors"
    save_weights(path, {"a": torch.zeros(2, 3), "b": torch.ones(2, 3)}, META)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    for wrong in (
        {"a": torch.ones(2, 3), "b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2), "b": torch.ones(2, 3)},
        {"a": torch.zeros(2, 3)},
    ):
        safetensors.torch.save_file(wrong, path, header)
        assert "checksum" in mistake(load_weights, path)
