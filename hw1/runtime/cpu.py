"""Cores of this process: how many there are, and who uses them: threads, loader processes, the model."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from hw1.runtime import distributed as dist

if TYPE_CHECKING:
    import torch

CHUNK = 16  # items that a thread does between two looks at the progress bar
Result = TypeVar("Result")


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: its affinity, the CPU quota of its control groups (version 1 or 2), rounded up, and its share of
    them where HW1_CORES states one, as runs that share a machine need it; at least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("HW1_CORES", "")
    if share.isdecimal():
        cores = min(cores, int(share))
    for quota, period in _cpu_quotas(cgroups, membership):
        cores = min(cores, -(-quota // period))
    return max(cores, 1)


def map_on_cores(work: Callable[[int], Result], count: int, desc: str) -> list[Result]:
    """[work(0), ..., work(count - 1)], by threads: image libraries release the interpreter. Returns or raises when all have ended."""
    pool = ThreadPoolExecutor(usable_cores())
    try:
        parts = pool.map(lambda part: [work(index) for index in part], (range(count)[i : i + CHUNK] for i in range(0, count, CHUNK)))
        return list(tqdm(itertools.chain.from_iterable(parts), desc=desc, total=count, unit=" images", delay=1.0, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)


def control_groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of all control groups (version 1 or 2) whose limits hold for this process: its own, and each above it."""
    for line in _words(membership, "\n"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        # In a container the path may be the host's, of which nothing is mounted: then only the top exists, and is the container's own.
        inner = top / path.lstrip("/")
        for group in (inner, *inner.parents):
            yield group
            if group == top:
                break


def _cpu_quotas(cgroups: Path, membership: Path) -> list[tuple[int, int]]:
    """(quota, period) in microseconds of every control group that limits this process."""
    found = []
    for group in control_groups("cpu", cgroups, membership):
        words = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):  # without a limit: "max" or -1
            found.append((int(words[0]), int(words[1])))
    return found


def _words(file: Path, separator: str | None = None) -> list[str]:
    try:
        return [word for word in file.read_text().split(separator) if word]
    except OSError:
        return []


MAX_WORKERS = 16


def own_cores() -> int:
    """Cores of this process: of those that it may use its share, where several train together on this machine; at least 1."""
    return max(usable_cores() // dist.local_world_size(), 1)


def default_num_workers(device: "torch.device") -> int:
    """Loader processes for training on `device`, by the cores of this process.

    Off the CPU one core is left to the process that feeds the device: cores - 1, at least 1, at most 16. On the CPU every core is the
    model's: one process loads in the gaps that its threads leave.
    """
    cores = own_cores()
    if device.type == "cpu":
        return 1 if cores > 1 else 0
    return min(max(cores - 1, 1), MAX_WORKERS)


def limit_threads() -> None:
    """Gives torch no more threads, in this process, than it has cores.

    torch does not see the CPU quota of a container. Threads beyond it are stopped for most of the time, and the others wait for them. The
    number does not depend on the loader's: other threads add up in another order, and a result must not change with `data.num_workers`.
    torchrun sets OMP_NUM_THREADS=1 where it is not set, which says nothing: then, too, a process takes its cores.
    """
    import torch

    cores = own_cores()
    is_by_torchrun = dist.local_world_size() > 1 and os.environ.get("OMP_NUM_THREADS") == "1"
    torch.set_num_threads(cores if is_by_torchrun else min(torch.get_num_threads(), cores))
