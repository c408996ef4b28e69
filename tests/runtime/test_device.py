"""Devices, precision, determinism and random state; what needs a GPU runs where there is one."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.paths import ROOT

from hw1.config.recipe import TrainConfig
from hw1.errors import RunError, UserError
from hw1.runtime.device import (
    _driver_version,
    _why_no_cuda,
    amp_dtype,
    autocast_of,
    describe_device,
    device_name,
    pick_device,
    seed_generators,
    set_determinism,
    use_compile,
    use_cuda_graphs,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("there", "chosen"), [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")]
)
def test_auto_takes_the_best_device_there_is(monkeypatch, there, chosen):
    machine(monkeypatch, **there)
    assert pick_device(TrainConfig(device="auto")).type == chosen
    assert pick_device(TrainConfig(device="cpu")).type == "cpu"


def test_a_device_that_is_not_there_is_the_users_mistake(monkeypatch):
    machine(monkeypatch)
    with pytest.raises(UserError, match=r"^train\.device: no cuda device on this machine \(.+\); available: cpu$"):
        pick_device(TrainConfig(device="cuda"))
    machine(monkeypatch, cuda=True)
    with pytest.raises(UserError, match=r"^train\.device: no mps device on this machine; available: cuda, cpu$"):
        pick_device(TrainConfig(device="mps"))


def test_the_device_has_a_name():
    assert device_name(CPU) == "cpu"
    if torch.cuda.is_available():
        assert device_name(torch.device("cuda")) == torch.cuda.get_device_name()


# What the kernel's two modules write there, and what nvidia-smi calls the driver.
DRIVERS = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc 12.2.0\n": "535.183.01",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder@host)  Sun Jul 27": "580.65.06",
    "something else 1.2.3": None,
}


@pytest.mark.parametrize(("text", "version"), DRIVERS.items())
def test_the_driver_is_read_from_the_kernel(tmp_path, text, version):
    (tmp_path / "version").write_text(text)
    assert _driver_version(tmp_path / "version") == version
    assert _driver_version(tmp_path / "absent") is None


def test_why_there_is_no_gpu_is_said(monkeypatch, tmp_path):
    machine(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    (tmp_path / "mark").touch()
    assert _why_no_cuda(tmp_path, [tmp_path / "absent"]) == "none is visible"
    assert _why_no_cuda(tmp_path, [tmp_path / "mark"]) == "none is visible in this container; docker run --gpus all shows it"
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert _why_no_cuda(tmp_path, []) == f"torch {torch.__version__} for CUDA 13.2 finds none"

    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.setattr(torch.cuda, "init", fail)
    assert _why_no_cuda(tmp_path, []) == "The NVIDIA driver on your system is too old (found version 11040)."
    monkeypatch.setattr(torch.version, "cuda", None)
    assert _why_no_cuda(tmp_path, []) == f"torch {torch.__version__} is built without CUDA"


def test_a_cpu_is_described_by_why_it_is_no_gpu(monkeypatch):
    machine(monkeypatch)
    assert describe_device(CPU).startswith("device: cpu; no GPU: ")
    machine(monkeypatch, cuda=True)
    assert describe_device(CPU) == "device: cpu; no GPU: not asked for"


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's answers for a GPU; it computes on the CPU."""
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (78 * 2**30, 79 * 2**30 + 2**29))
    monkeypatch.setattr(torch.version, "cuda", "13.2")


def test_a_gpu_is_described_with_memory_driver_and_cuda(monkeypatch):
    pretend_gpu(monkeypatch)
    monkeypatch.setattr("hw1.runtime.device._driver_version", lambda: "580.65.06")
    found = describe_device(torch.device("cuda"))
    assert found == f"device: NVIDIA H100 80GB HBM3, 78.0 of 79.5 GiB free, driver 580.65.06, torch {torch.__version__} for CUDA 13.2"


def test_a_gpu_that_does_not_compute_ends_the_run_with_one_line(monkeypatch):
    pretend_gpu(monkeypatch)

    def fail(*size: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(RunError) as raised:
        describe_device(torch.device("cuda"))
    assert str(raised.value) == (
        "NVIDIA H100 80GB HBM3: does not compute: CUDA error: no kernel image is available for execution on the device"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu_is_described():
    assert describe_device(torch.device("cuda")).startswith(f"device: {torch.cuda.get_device_name()}, ")


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, None)]
)
def test_auto_precision_on_a_cpu_is_bf16_only_where_it_computes_in_it(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert amp_dtype(TrainConfig(amp="auto"), CPU) == expected


def test_auto_precision_survives_a_torch_without_these_probes(monkeypatch):
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert amp_dtype(TrainConfig(amp="auto"), CPU) is None


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)])
def test_auto_precision_on_a_gpu_follows_its_generation(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert amp_dtype(TrainConfig(amp="auto"), torch.device("cuda")) == expected


def test_asked_for_precision_is_taken_or_refused():
    for device in (CPU, torch.device("cuda"), torch.device("mps")):
        assert amp_dtype(TrainConfig(amp="off"), device) is None
        assert amp_dtype(TrainConfig(amp="bf16"), device) == torch.bfloat16
    assert amp_dtype(TrainConfig(amp="fp16"), torch.device("cuda")) == torch.float16
    with pytest.raises(UserError, match=r"^train\.amp: fp16 needs a GPU"):
        amp_dtype(TrainConfig(amp="fp16"), CPU)


def test_autocast_changes_what_a_product_is_computed_in():
    weights = torch.ones(2, 2)
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        autocast = autocast_of(CPU, dtype)
        for _ in range(2):  # a factory, to be entered again
            with autocast():
                assert (weights @ weights).dtype == expected
    assert (weights @ weights).dtype == torch.float32


def test_determinism_is_switched_on_and_off(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.backends.cudnn.benchmark
    try:
        set_determinism(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        set_determinism(False)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
)
def test_dropout_is_a_function_of_the_seed(device):
    """Whatever was drawn before, and in any process; as after `torch.manual_seed`."""
    ones, masks = torch.ones(1000, device=device), []
    for seed in (5, 2**64 - 1, 5):
        torch.rand(7, device=device)
        seed_generators(seed, torch.device(device))
        masks.append(torch.nn.functional.dropout(ones, 0.5))
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])
    torch.manual_seed(5)
    assert torch.equal(torch.nn.functional.dropout(ones, 0.5), masks[0])


@pytest.mark.parametrize(
    ("device", "settings", "num_updates", "expected"),
    [
        (CUDA, {}, 50_000, True),
        (CUDA, {}, 100, False),
        (CUDA, {"deterministic": True}, 50_000, False),
        (CPU, {}, 50_000, False),
        (CPU, {"compile": True}, 1, True),
        (CUDA, {"compile": False}, 50_000, False),
    ],
)
def test_only_long_runs_on_cuda_compile_by_themselves(device, settings, num_updates, expected):
    assert use_compile(TrainConfig(**settings), device, num_updates) is expected


@pytest.mark.parametrize(
    ("device", "dtype", "settings", "expected"),
    [
        (CUDA, torch.bfloat16, {}, True),
        (CUDA, None, {}, True),
        (CUDA, torch.bfloat16, {"cuda_graph": False}, False),
        (CUDA, torch.float16, {}, False),
        (CUDA, torch.bfloat16, {"grad_accum": 2}, False),
        (CUDA, torch.bfloat16, {"deterministic": True}, False),
        (CPU, None, {}, False),
    ],
)
def test_steps_are_recorded_where_that_can_be_done(device, dtype, settings, expected):
    assert use_cuda_graphs(TrainConfig(**settings), device, dtype, 50_000) is expected
    assert use_cuda_graphs(TrainConfig(**settings), device, dtype, 100) is False


@pytest.mark.parametrize(
    ("device", "dtype", "settings", "reason"),
    [
        (CPU, None, {}, "there are no CUDA graphs on cpu"),
        (CUDA, torch.float16, {}, "fp16's scaler"),
        (CUDA, None, {"grad_accum": 2}, "only steps of one batch"),
    ],
)
def test_recording_that_cannot_be_done_is_the_users_mistake(device, dtype, settings, reason):
    with pytest.raises(UserError, match=f"^train.cuda_graph: {reason}"):
        use_cuda_graphs(TrainConfig(cuda_graph=True, **settings), device, dtype, 1)


def test_only_torchs_fused_optimizers_are_recorded():
    assert use_cuda_graphs(TrainConfig(), CUDA, torch.bfloat16, 50_000, is_fused=False) is False
    with pytest.raises(UserError, match=r"^train\.cuda_graph: of the optimizers only adamw"):
        use_cuda_graphs(TrainConfig(cuda_graph=True), CUDA, torch.bfloat16, 1, is_fused=False)


def test_freed_memory_is_kept_and_taken_again():
    """Page faults of a process that frees and requests 8 times 64 MiB: all of it comes anew each time, or none of it.

    Before, it does so 16 times: glibc cannot align a block in a hole of exactly its size, so the heap first grows by a few blocks.
    """
    program = """
import resource, sys, torch
from hw1.runtime.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(16):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC", "THP", "LD_PRELOAD"))}
    faults = {
        how: int(subprocess.run([sys.executable, "-c", program, how], cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
        for how in ("keep", "give back")
    }
    if faults["give back"] < 1000:
        pytest.skip("this C library keeps memory by itself")
    assert faults["keep"] < faults["give back"] / 4
