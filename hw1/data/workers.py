"""Who uses the cores: how many processes the loader has, how one behaves, and how many threads the model gets."""

import multiprocessing
import os
import signal
import threading

import cv2
import torch

from hw1 import dist
from hw1.data.cores import usable_cores

MAX_WORKERS = 16


def own_cores() -> int:
    """Cores of this process: of those that it may use its share, where several train together on this machine; at least 1."""
    return max(usable_cores() // dist.local_world_size(), 1)


def default_num_workers(device: torch.device) -> int:
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
    cores = own_cores()
    is_by_torchrun = dist.local_world_size() > 1 and os.environ.get("OMP_NUM_THREADS") == "1"
    torch.set_num_threads(cores if is_by_torchrun else min(torch.get_num_threads(), cores))


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
