"""Who uses the cores: how many processes the loader has, how one behaves, and how many threads the model gets."""

import multiprocessing
import os
import signal
import threading

import cv2
import torch

from hw1.utils.signals import STOP_SIGNALS


def start_worker(worker_id: int) -> None:
    """First thing in each loader process: no threads of its own, and only its parent ends it.

    Ctrl-C, and the SIGTERM of a batch system, of `timeout` or of `docker stop`'s init, reach every process of a run; the trainer alone
    decides what follows, and may need its loader for that.
    """
    ignored = {signal.SIGINT, signal.SIGTERM}  # they arrive blocked, with all of `STOP_SIGNALS`, from where the process was started
    for signum in {*STOP_SIGNALS} - {signal.SIGTERM}:
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS} - ignored)
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)  # for the threads started from here on, too
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_end_when_told_by, args=(parent.pid,), daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):  # macOS: it cannot tell who sent a SIGTERM
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_when_told_by(pid: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != pid:
        pass
    os._exit(0)
