"""Where and in which precision to compute, and the random state of it. No recipe file, no model."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hw1 import dist
from hw1.config import TrainConfig
from hw1.errors import UserError

Autocast = Callable[[], AbstractContextManager[Any]]


def pick_device(config: TrainConfig) -> torch.device:
    """The device that `train.device` asks for; `auto`: CUDA, then MPS (untested), then the CPU. Several processes have a GPU each.

    Raises `UserError` for a device that this machine does not have, or not often enough.
    """
    is_alone = dist.world_size() == 1
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and is_alone, "cpu": True}
    name = next(name for name, is_there in available.items() if is_there) if config.device == "auto" else config.device
    if not available[name]:
        there = [name for name, is_there in available.items() if is_there]
        raise UserError(f"train.device: no {name} device on this machine; available: {', '.join(there)}")
    if is_alone or name != "cuda":
        return torch.device(name)
    if dist.local_world_size() > torch.cuda.device_count():
        counts = f"{dist.local_world_size()} processes, but {torch.cuda.device_count()} GPUs"
        raise UserError(f"train.device: {counts} on this machine; set torchrun's --nproc-per-node, or train.device=cpu")
    torch.cuda.set_device(dist.local_rank())
    return torch.device(name, dist.local_rank())


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


def get_rng_state() -> dict[str, Any]:
    """State of the generators that dropout draws from (the data's and Mixup's are functions of the step instead): CPU's, current GPU's."""
    return {"cpu": torch.get_rng_state(), "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []}


def set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0])  # earlier versions saved those of all GPUs, and trained on the first
