"""Child processes, one at a time, that end with this one however it ends. Imports nothing of this project: see `_start`."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1  # prctl(2)


class ChildProcess:
    """Runs one command after the other; a SIGINT or SIGTERM to this process reaches the child, which then decides when it ends.

    `signum` is the first signal received, or passed to `stop`, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str]) -> int:
        """Waits for the command to end and returns its exit code, or minus the number of the signal that killed it.

        It gets no standard input and shares stdout and stderr. It is asked to end, by SIGTERM, when this process, or the thread that
        called this, ends first, be it by SIGKILL (Linux only; elsewhere it runs on).
        """
        self._child = _start(command)
        if self.signum is not None:  # received before there was a child to tell
            self._child.terminate()
        code = self._child.wait()
        self._child = None
        return code

    def stop(self, signum: int) -> None:
        """Asks the child, and any that is started from now on, to end; another thread may call it while `run` waits."""
        self.signum = self.signum or signum
        if child := self._child:
            # SIGTERM for either: it means the same to a training run, and in a Python that still starts up SIGINT is a traceback.
            child.terminate()

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.stop(signum)

    @contextmanager
    def listening(self) -> Iterator["ChildProcess"]:
        """Installs the handlers (main thread only) and puts the former ones back."""
        former = {signum: signal.signal(signum, self._receive) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)


def _start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Starts this file, which becomes the command.

    A process group of its own keeps Ctrl-C from reaching the child twice. `-I` keeps this folder, whose modules have names of the
    standard library's, out of Python's path. `preexec_fn` would need neither, but is not safe beside threads.
    """
    wrapper = [sys.executable, "-I", __file__, str(os.getpid())]
    return subprocess.Popen([*wrapper, *command], stdin=subprocess.DEVNULL, process_group=0)


def end_with_parent(signum: int) -> None:
    """Has this process sent the signal when its parent ends (Linux only), and after exec too."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signum))


def _become(parent: int, command: list[str]) -> None:
    """Turns this process into the command, which is asked to end when its parent does."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() == parent:  # else it ended before the request was made
        os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
