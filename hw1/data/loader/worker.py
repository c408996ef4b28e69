"""Start the loader's processes, prepare each, and say how one ended."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import cv2
import torch

from hw1.utils.signals import STOP_SIGNALS


def start_worker(worker_id: int) -> None:
    """Prepare a loader process, first of all: it has no threads of its own, and only its parent ends it.

    Ctrl-C, and the SIGTERM of a batch system, of `timeout` or of `docker stop`'s init, reach every process of a run; the trainer alone
    decides what follows, and may need its loader for that.
    """
    ignored = {signal.SIGINT, signal.SIGTERM}  # they arrive blocked, with all of `STOP_SIGNALS`: see `hold_signals`
    for signum in {*STOP_SIGNALS} - {signal.SIGTERM}:
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS} - ignored)
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)  # for the threads started from here on, too
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_exit_on_sigterm_of, args=(parent.pid,), daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):  # macOS: it cannot tell who sent a SIGTERM
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _exit_on_sigterm_of(pid: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != pid:
        pass
    os._exit(0)


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Keep signals in order while torch starts the loader processes in the block. Acts on POSIX and in the main thread only.

    Signals that ask to stop are held back, so that none gets one before `start_worker` has prepared it. And the SIGCHLD handler that torch
    sets is undone: it answers a process's death with an exception in whatever line the main thread is at, saving a checkpoint for instance.
    Without it the death is noticed where the next batch is asked for, up to 5 s later.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def require_semaphores(num_workers: int) -> None:
    """Check that there is room for the semaphores of torch's queues, which lie in /dev/shm.

    torch would raise the same error, and complain of its own unfinished iterator besides.

    Raises:
        OSError: There is no room.
    """
    [multiprocessing.Semaphore() for _ in range(8 + 3 * num_workers)]


def describe_exit(exitcode: int) -> str:
    """Say how a process ended, by its exit code or, negative, the signal that killed it."""
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"
