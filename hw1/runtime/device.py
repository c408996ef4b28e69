"""Where and in which precision to compute, and what is drawn there. No recipe file, no model."""

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from hw1.config.recipe import TrainConfig
from hw1.errors import RunError, UserError
from hw1.runtime import distributed as dist
from hw1.utils.text import first_line

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
Autocast = Callable[[], AbstractContextManager[Any]]
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"), Path("/var/run/secrets/kubernetes.io"))
"""What Docker, Podman and Kubernetes leave in a container."""


def pick_device(config: TrainConfig) -> torch.device:
    """The device that `train.device` asks for; `auto`: CUDA, then MPS (untested), then the CPU. Several processes have a GPU each.

    Raises `UserError` for a device that this machine does not have, or not often enough.
    """
    is_alone = dist.world_size() == 1
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and is_alone, "cpu": True}
    name = next(name for name, is_there in available.items() if is_there) if config.device == "auto" else config.device
    if not available[name]:
        there = [name for name, is_there in available.items() if is_there]
        why = f" ({_why_no_cuda()})" if name == "cuda" else ""
        raise UserError(f"train.device: no {name} device on this machine{why}; available: {', '.join(there)}")
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


def describe_device(device: torch.device) -> str:
    """One line on what computes, after a first multiplication on it: a GPU's memory, driver and CUDA, or why there is none.

    Raises `RunError` where the GPU does not compute: too old for this torch, broken, or all of its memory taken.
    """
    if device.type != "cuda":
        return f"device: {device.type}" + (f"; no GPU: {_why_no_cuda()}" if device.type == "cpu" else "")
    try:
        torch.ones(8, 8, device=device).matmul(torch.ones(8, 8, device=device)).sum().item()
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    except RuntimeError as error:
        raise RunError(f"{device_name(device)}: does not compute: {first_line(error)}") from None
    driver = f"driver {version}, " if (version := _driver_version()) else ""
    built = f"torch {torch.__version__} for CUDA {torch.version.cuda}"
    return f"device: {device_name(device)}, {free:.1f} of {total:.1f} GiB free, {driver}{built}"


def _why_no_cuda(devices: Path = Path("/dev"), marks: Sequence[Path] = CONTAINER_MARKS) -> str:
    """What stands between torch and a GPU of NVIDIA's; "not asked for" where nothing does."""
    if torch.cuda.is_available():
        return "not asked for"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not any(devices.glob("nvidia[0-9]*")) and not (devices / "dxg").exists():  # dxg: Windows' way to it, in WSL
        return "none is visible in this container; docker run --gpus all shows it" if any(map(Path.exists, marks)) else "none is visible"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return first_line(error)
    return f"torch {torch.__version__} for CUDA {torch.version.cuda} finds none"


def _driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Of the kernel's module, as nvidia-smi shows it; WSL has no such file."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", file.read_text())
    except OSError:
        return None
    return found[1] if found else None


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


LONG_RUN = 3000
"""Optimizer steps from which on a run is long enough to be worth compiling, which takes a minute or more (estimated, not measured)."""


def use_compile(config: TrainConfig, device: torch.device, num_updates: int) -> bool:
    """Whether a run of so many optimizer steps goes through torch.compile: as `train.compile` says, `auto`: on CUDA where it is long.

    On a CPU nearly all of a step is spent in convolutions, which compiling leaves as they are (benchmarks/NOTES.md). A deterministic run
    is not compiled: Inductor may choose other kernels the next time.
    """
    if config.compile == "auto":
        return device.type == "cuda" and not config.deterministic and num_updates >= LONG_RUN
    return config.compile


def use_cuda_graphs(config: TrainConfig, device: torch.device, dtype: torch.dtype | None, num_updates: int) -> bool:
    """Whether whole steps are recorded as CUDA graphs: as `train.cuda_graph` says, `auto`: on CUDA where it can be done.

    Raises `UserError` where it is asked for and cannot be.
    """
    hindrance = None
    if device.type != "cuda":
        hindrance = f"there are no CUDA graphs on {device.type}"
    elif dist.world_size() > 1:
        hindrance = "several processes exchange gradients within a step"
    elif dtype is torch.float16:
        hindrance = "fp16's scaler looks at every step; use train.amp=bf16 or off"
    elif config.grad_accum > 1:
        hindrance = "only steps of one batch are recorded; use train.grad_accum=1"
    if config.cuda_graph == "auto":
        return hindrance is None and not config.deterministic and num_updates >= LONG_RUN
    if config.cuda_graph and hindrance:
        raise UserError(f"train.cuda_graph: {hindrance}, or train.cuda_graph=auto")
    return config.cuda_graph


def keep_freed_memory() -> None:
    """Lets glibc's allocator keep memory that is freed, up to a GiB a piece, for the next request; elsewhere does nothing.

    A training step frees and requests the same large tensors again and again. Given back to the system each comes anew page by page, each
    page cleared: a fifth of a step's time on a CPU (benchmarks/NOTES.md). Peak memory stays what it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)  # an int; a negative one is passed over


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


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from on this device (0 to 2^64 - 1). `torch.manual_seed` does more, at a hundred times the cost."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
