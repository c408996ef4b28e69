"""The cores that this process may use, and how many threads and loader processes get them."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hw1.runtime import distributed as dist
from hw1.utils.progress_bar import ProgressBar

if TYPE_CHECKING:
    import torch

CHUNK = 16  # items that a thread does between two updates of the progress bar
MAX_WORKERS = 16
Result = TypeVar("Result")


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use, at least 1.

    It is the smallest of its CPU affinity, the CPU quotas of its control groups (version 1 or 2), rounded up, and the environment variable
    HW1_CORES, which is set for runs that share a machine.

    Args:
        cgroups: Where control groups are mounted.
        membership: File that lists the control groups of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("HW1_CORES", "")
    if limit.isdecimal():
        cores = min(cores, int(limit))
    for quota, period in _cpu_quotas(cgroups, membership):
        cores = min(cores, -(-quota // period))
    return max(cores, 1)


def map_on_cores(work: Callable[[int], Result], count: int, desc: str) -> list[Result]:
    """Return [work(0), ..., work(count - 1)], computed by threads, one for each core; image libraries release the interpreter's lock.

    Args:
        work: Called with each index; its exception is raised here once all threads have ended.
        count: Number of calls.
        desc: Label of the progress bar.
    """
    pool = ThreadPoolExecutor(usable_cores())
    try:
        parts = pool.map(lambda part: [work(index) for index in part], (range(count)[i : i + CHUNK] for i in range(0, count, CHUNK)))
        return list(ProgressBar(itertools.chain.from_iterable(parts), desc=desc, total=count, unit=" images", delay=1.0))
    finally:
        pool.shutdown(cancel_futures=True)


def _cpu_groups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of all control groups (version 1 or 2) that limit this process: its own and every parent."""
    for line in _words(membership, "\n"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / "cpu" if controllers else cgroups
        # In a container the path may be the host's, which is not mounted: then only the top exists, which is the container's.
        inner = top / path.lstrip("/")
        for group in (inner, *inner.parents):
            yield group
            if group == top:
                break


def _cpu_quotas(cgroups: Path, membership: Path) -> list[tuple[int, int]]:
    """Return (quota, period) in microseconds of every control group that limits this process."""
    quotas = []
    for group in _cpu_groups(cgroups, membership):
        words = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):  # without a limit: "max" or -1
            quotas.append((int(words[0]), int(words[1])))
    return quotas


def _words(file: Path, separator: str | None = None) -> list[str]:
    try:
        return [word for word in file.read_text().split(separator) if word]
    except OSError:
        return []


def cores_per_process() -> int:
    """Return the usable cores divided by the processes of the run on this machine, at least 1."""
    return max(usable_cores() // dist.local_world_size(), 1)


def default_num_workers(device: "torch.device") -> int:
    """Return how many loader processes to start for training on `device`, by the cores of this process.

    For a GPU: cores - 1, at least 1, at most 16; one core is left to the process that feeds the GPU. For the CPU: 1, and none with a single
    core, because the model uses all cores and the loader runs in the gaps that its threads leave.
    """
    cores = cores_per_process()
    if device.type == "cpu":
        return 1 if cores > 1 else 0
    return min(max(cores - 1, 1), MAX_WORKERS)


def limit_threads() -> None:
    """Limit torch's threads to the cores of this process.

    torch does not see the CPU quota of a container; threads beyond it are stopped for most of the time while the others wait for them. The
    number does not depend on `data.num_workers`: another number of threads adds up in another order, and results must not change with it.
    torchrun sets OMP_NUM_THREADS=1 where the user has not set it, so among several processes 1 is ignored.
    """
    import torch

    cores = cores_per_process()
    is_set_by_torchrun = dist.local_world_size() > 1 and os.environ.get("OMP_NUM_THREADS") == "1"
    torch.set_num_threads(cores if is_set_by_torchrun else min(torch.get_num_threads(), cores))
