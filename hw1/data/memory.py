"""How much memory this process may still take, on the host and on the device."""

import sys
from pathlib import Path

import torch

from hw1.data.cores import control_groups
from hw1.errors import UserError

SHARE = 0.5
"""Of the free memory, for a set of pictures that stays there: the rest is for the model, its gradients and what it computes."""


def require_room(num_bytes: int, what: str, device: torch.device) -> None:
    """Raises UserError where `num_bytes` for `what` exceed SHARE of the memory that is free on the device."""
    free = free_memory(device)
    if num_bytes > SHARE * free:
        raise UserError(
            f"data.cache: {what} take {num_bytes / 1e9:.2f} GB in the memory of {device.type}, of which {free / 1e9:.2f} GB are free and at"
            f" most {SHARE:.0%} is for pictures; use data.cache=disk or data.cache=none"
        )


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on CUDA; on the CPU what the system has available, within the limits of the control groups."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes that this process can allocate without swapping; memory that only caches files counts as free. No limit where no file tells."""
    fields = _fields(meminfo)
    free = [fields["MemAvailable:"] * 1024] if "MemAvailable:" in fields else []
    for group in control_groups("memory", cgroups, membership):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            if (most := _number(group / limit)) is not None and (used := _number(group / usage)) is not None:
                stat = _fields(group / "memory.stat")
                free.append(most - used + stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return max(min(free, default=sys.maxsize), 0)


def _fields(file: Path) -> dict[str, int]:
    """First and second word of each line; {} for a file that is not there."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}


def _number(file: Path) -> int | None:
    """The number that the file holds; None without a file, and for "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
