"""The device as a benchmark sees it: when it has finished, what it remembers of its memory, which kernels libraries may choose."""

import contextlib
import ctypes
import gc

import torch
import torch._dynamo

from hw1.errors import UserError
from hw1.runtime.cpu import limit_threads
from hw1.runtime.device import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, device_name

MIB = 2**20


def open_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU. Raises UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: no CUDA device on this machine; available: cpu")
    return torch.device(name)


def prepare_process() -> None:
    """As `fit` begins; and the compiler must not give up because one process compiles more models than a training ever has."""
    limit_threads()
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.accumulated_recompile_limit = 4096


def describe_device(device: torch.device) -> dict[str, object]:
    """What a result file says beside `benchmarks.common.machine`: name, threads, and of a GPU its generation, memory and libraries."""
    facts: dict[str, object] = {"device": device_name(device), "threads": torch.get_num_threads()}
    if device.type == "cpu":
        facts["instructions"] = torch.backends.cpu.get_cpu_capability()
    else:
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory(device: torch.device) -> None:
    """Gives back what is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def use_defaults() -> None:
    """PyTorch's own defaults of what a training loop sets for the whole process: each loop starts its turn from here."""
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False


def use_default_heap() -> None:
    """glibc's own defaults, and nothing kept of what was freed: for turns that share a process with ours, which changes them.

    glibc raises its threshold by itself, up to 32 MiB, as pieces of memory are freed, and gives back twice that at the end of its heap
    (mallopt(3)): what it comes to in any training is set here at once.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(M_TRIM_THRESHOLD, 64 * MIB)
        libc.malloc_trim(0)


class DeviceMemory:
    """How far the memory of a GPU rises from here on, MiB. On the CPU there is no such counter: see `benchmarks.common.memory`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            release_memory(device)
            synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._allocated = torch.cuda.memory_allocated(device)
            self._reserved = torch.cuda.memory_reserved(device)

    def peak(self) -> dict[str, float] | None:
        """Of tensors (`allocated`), and with what the allocator holds for them (`reserved`); None on the CPU."""
        if self._device.type != "cuda":
            return None
        synchronize(self._device)
        allocated = torch.cuda.max_memory_allocated(self._device) - self._allocated
        reserved = torch.cuda.max_memory_reserved(self._device) - self._reserved
        return {"allocated": round(allocated / MIB, 1), "reserved": round(reserved / MIB, 1)}
