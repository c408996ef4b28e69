"""How many cores this process may use, and work on all of them. No torch."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

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
