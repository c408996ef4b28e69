"""Where and in which precision to compute, and the random state of it. No recipe file, no model."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hw1.config import TrainConfig
from hw1.errors import UserError

Autocast = Callable[[], AbstractContextManager[Any]]


def pick_device(config: TrainConfig) -> torch.device:
    """The device that `train.device` asks for; `auto`: CUDA, then MPS (untested), then the CPU.

    Raises `UserError` for a device that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return torch.device(next(name for name, is_there in available.items() if is_there))
    if not available[config.device]:
        there = [name for name, is_there in available.items() if is_there]
        raise UserError(f"train.device: no {config.device} device on this machine; available: {', '.join(there)}")
    return torch.device(config.device)


def device_name(device: torch.device) -> str:
    """As a reader of a results table knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def precision_name(dtype: torch.dtype | None) -> str:
    """What `amp_dtype` chose, as recipes call it; fp32 for none."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16", None: "fp32"}[dtype]


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":  # without AMX or AVX512-BF16, bf16 on a CPU is slower than FP32
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def amp_dtype(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """The autocast type of `train.amp` on this device, None for FP32.

    Raises `UserError` where fp16 is asked of a device that is no GPU.
    """
    if config.amp == "auto":
        if _computes_bf16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else None
    if config.amp == "fp16" and device.type == "cpu":
        raise UserError("train.amp: fp16 needs a GPU; the CPU computes in bf16 or FP32 (auto, bf16, off)")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[config.amp]


def autocast_of(device: torch.device, dtype: torch.dtype | None) -> Autocast:
    """A factory of context managers: autocast to `dtype`, or nothing for None."""
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype=dtype)


def set_determinism(deterministic: bool) -> None:
    """Deterministic kernels or the fastest ones. Call before the first CUDA operation."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no memory, or on the CPU the system: torch's and oneDNN's errors of that have no class of their own."""
    text = str(error)
    is_of_cpu = "DefaultCPUAllocator: " in text or text == "could not create a primitive"
    return is_of_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def get_rng_state() -> dict[str, Any]:
    """State of the generators that dropout draws from (the data's and Mixup's are functions of the step instead)."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
