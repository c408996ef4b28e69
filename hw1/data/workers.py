"""The loader's processes: how many, and how one behaves."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import cv2
import torch

MAX_WORKERS = 16


def default_num_workers(device: torch.device) -> int:
    """Loader processes for training on `device`, by the cores that this process may use.

    Off the CPU one core is left to the process that feeds the device: cores - 1, at least 1, at most 16. On the CPU every core is the
    model's.
    """
    cores = usable_cores()
    if device.type == "cpu":
        return 1 if cores > 1 else 0
    return min(max(cores - 1, 1), MAX_WORKERS)


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: its affinity, and the CPU quota of its control groups (version 1 or 2), rounded up; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _cpu_quotas(cgroups, membership):
        cores = min(cores, -(-quota // period))
    return max(cores, 1)


def _cpu_quotas(cgroups: Path, membership: Path) -> list[tuple[int, int]]:
    """(quota, period) in microseconds of every control group that limits this process: its own, and each above it."""
    found = []
    for line in _words(membership, "\n"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / "cpu" if controllers else cgroups
        # In a container the path may be the host's, of which nothing is mounted: then only the top exists, and is the container's own.
        inner = top / path.lstrip("/")
        for group in (inner, *inner.parents):
            words = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):  # without a limit: "max" or -1
                found.append((int(words[0]), int(words[1])))
            if group == top:
                break
    return found


def _words(file: Path, separator: str | None = None) -> list[str]:
    try:
        return [word for word in file.read_text().split(separator) if word]
    except OSError:
        return []


def start_worker(worker_id: int) -> None:
    """First thing in each loader process: no threads of its own, and only its parent ends it.

    Ctrl-C, and the SIGTERM of a batch system, of `timeout` or of `docker stop`'s init, reach every process of a run; the trainer alone
    decides what follows, and may need its loader for that.
    """
    ignored = {signal.SIGINT, signal.SIGTERM}  # both arrive blocked from where the process was started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)  # for the threads started from here on, too
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_end_when_told_by, args=(parent.pid,), daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):  # macOS: it cannot tell who sent a SIGTERM
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ignored)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_when_told_by(pid: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != pid:
        pass
    os._exit(0)
