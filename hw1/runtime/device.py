"""Choose device, precision and execution mode, and seed the random generators that dropout draws from."""

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
LONG_RUN = 3000
"""Optimizer steps that make a run long enough to be worth compiling, which takes a minute or more (estimated, not measured)."""
Autocast = Callable[[], AbstractContextManager[Any]]
CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"), Path("/var/run/secrets/kubernetes.io"))
"""Files that Docker, Podman and Kubernetes make in a container."""


def pick_device(config: TrainConfig) -> torch.device:
    """Return the device of `train.device`; `auto` takes CUDA, then MPS (untested), then the CPU. Several processes take a GPU each.

    Raises:
        UserError: This machine does not have the device, or has fewer GPUs than processes.
    """
    is_alone = dist.world_size() == 1
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and is_alone, "cpu": True}
    choices = [name for name, is_available in available.items() if is_available]
    name = choices[0] if config.device == "auto" else config.device
    if name not in choices:
        reason = f" ({_why_no_cuda()})" if name == "cuda" else ""
        raise UserError(f"train.device: no {name} device on this machine{reason}; available: {', '.join(choices)}")
    if is_alone or name != "cuda":
        return torch.device(name)
    if dist.local_world_size() > torch.cuda.device_count():
        counts = f"{dist.local_world_size()} processes, but {torch.cuda.device_count()} GPUs"
        raise UserError(f"train.device: {counts} on this machine; set torchrun's --nproc-per-node, or train.device=cpu")
    torch.cuda.set_device(dist.local_rank())
    return torch.device(name, dist.local_rank())


def device_name(device: torch.device) -> str:
    """Return the device's name for a table of results: a GPU's model, else the type of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_device(device: torch.device) -> str:
    """Return one line about the device: a GPU's memory, driver and CUDA version, or why there is no GPU. A GPU is tried first.

    Raises:
        RunError: The GPU fails to compute: too old for this torch, broken, or all of its memory taken.
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


def _why_no_cuda(devices: Path = Path("/dev"), container_files: Sequence[Path] = CONTAINER_FILES) -> str:
    """Return why torch cannot use an NVIDIA GPU; "not asked for" if it can."""
    if torch.cuda.is_available():
        return "not asked for"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not any(devices.glob("nvidia[0-9]*")) and not (devices / "dxg").exists():  # dxg: the GPU in WSL
        is_container = any(map(Path.exists, container_files))
        return "none is visible in this container; docker run --gpus all shows it" if is_container else "none is visible"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch has no types for it
    except RuntimeError as error:
        return first_line(error)
    return f"torch {torch.__version__} for CUDA {torch.version.cuda} finds none"


def _driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Return the version of NVIDIA's kernel module, as nvidia-smi shows it; None in WSL, which has no such file."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", file.read_text())
    except OSError:
        return None
    return match[1] if match else None


def precision_name(dtype: torch.dtype | None) -> str:
    """Return a recipe's word for a result of `amp_dtype`; fp32 for None."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16", None: "fp32"}[dtype]


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":  # without AMX or AVX512-BF16, bf16 on a CPU is slower than FP32
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def amp_dtype(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of `train.amp` on this device, None for FP32.

    Raises:
        UserError: fp16 is asked for on the CPU.
    """
    if config.amp == "auto":
        if _computes_bf16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else None
    if config.amp == "fp16" and device.type == "cpu":
        raise UserError("train.amp: fp16 needs a GPU; the CPU computes in bf16 or FP32 (auto, bf16, off)")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[config.amp]


def autocast_of(device: torch.device, dtype: torch.dtype | None) -> Autocast:
    """Return a factory of context managers: autocast to `dtype`; without effect for None."""
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype=dtype)


def use_compile(config: TrainConfig, device: torch.device, num_updates: int) -> bool:
    """Return whether to use torch.compile: as `train.compile` says; `auto`: for long runs on CUDA that are not deterministic.

    On a CPU nearly all of a step is spent in convolutions, which compiling does not change (benchmarks/NOTES.md). In a deterministic run
    Inductor might choose other kernels the next time.

    Args:
        config: Section `train` of the recipe.
        device: Where to train.
        num_updates: Optimizer steps of the whole run.
    """
    if config.compile == "auto":
        return device.type == "cuda" and not config.deterministic and num_updates >= LONG_RUN
    return config.compile


def use_cuda_graphs(
    config: TrainConfig, device: torch.device, dtype: torch.dtype | None, num_updates: int, *, is_fused: bool = True
) -> bool:
    """Return whether to record whole steps as CUDA graphs: as `train.cuda_graph` says; `auto`: for long runs where it is possible.

    Args:
        config: Section `train` of the recipe.
        device: Where to train.
        dtype: Of autocast, None for FP32.
        num_updates: Optimizer steps of the whole run.
        is_fused: Whether the optimizer is one of torch's fused ones, the only ones that can be recorded.

    Raises:
        UserError: The recipe asks for CUDA graphs and they are not possible.
    """
    obstacle = None
    if device.type != "cuda":
        obstacle = f"there are no CUDA graphs on {device.type}"
    elif dist.world_size() > 1:
        obstacle = "several processes exchange gradients within a step"
    elif dtype is torch.float16:
        obstacle = "fp16's scaler looks at every step; use train.amp=bf16 or off"
    elif config.grad_accum > 1:
        obstacle = "only steps of one batch are recorded; use train.grad_accum=1"
    elif not is_fused:
        obstacle = "of the optimizers only adamw, adam, sgd and momentum can be recorded; use one of them"
    if config.cuda_graph == "auto":
        return obstacle is None and not config.deterministic and num_updates >= LONG_RUN
    if config.cuda_graph and obstacle:
        raise UserError(f"train.cuda_graph: {obstacle}, or train.cuda_graph=auto")
    return config.cuda_graph


def keep_freed_memory() -> None:
    """Let glibc's allocator reuse freed memory, up to 1 GiB a block, instead of returning it to the system; do nothing elsewhere.

    A training step frees and requests the same large tensors again and again. The system would clear each of their pages anew, a fifth of
    a step's time on a CPU (benchmarks/NOTES.md). Peak memory stays the same.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)  # an int; glibc ignores a negative one


def set_determinism(deterministic: bool) -> None:
    """Choose deterministic kernels, or else the fastest ones. Call before the first CUDA operation."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler: more than a second's work
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device, or on the CPU the system, ran out of memory; on the CPU torch and oneDNN raise plain RuntimeErrors."""
    text = str(error)
    is_cpu_error = "DefaultCPUAllocator: " in text or text == "could not create a primitive"
    is_library_error = "_STATUS_ALLOC_FAILED" in text  # cuBLAS and cuDNN
    return is_cpu_error or is_library_error or isinstance(error, torch.OutOfMemoryError | MemoryError)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout draws from on this device.

    `torch.manual_seed` seeds those of all devices, at a hundred times the cost.

    Args:
        seed: 0 to 2^64 - 1.
        device: Where dropout draws.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
