"""Child processes, one at a time, that are asked to end when this process ends.

Imports nothing of this project on its own, because `_start` runs this file as a script.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import BinaryIO

PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_SECONDS = 0.05


class ChildProcess:
    """Run one command after the other and pass signals on to it; the child then decides when it ends.

    Attributes:
        signum: The first signal received, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], console: Path | None = None, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Run a command until it ends, without standard input.

        On Linux the child receives SIGTERM when the thread that called this ends first, even by SIGKILL; elsewhere the child runs on.

        Args:
            command: The command and its arguments.
            console: File to which what the child prints is appended; None: it goes to this process's stdout and stderr.
            should_stop: Asked many times a second; the child is asked to end, once, when it returns True.

        Returns:
            The exit code, or minus the number of the signal that killed the child.
        """
        with nullcontext() if console is None else console.open("ab") as output:
            self._child = _start(command, output)
        if is_asked := self.signum is not None:  # received before there was a child
            self._child.terminate()
        # Not wait(): Ray cancels a task by `_thread.interrupt_main()`, which runs the handler but interrupts no system call.
        while (code := self._child.poll()) is None:
            if not is_asked and should_stop():
                is_asked = True
                self._child.terminate()
            time.sleep(POLL_SECONDS)
        self._child = None
        return code

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if self._child:
            # SIGTERM for all: it means the same to a training run, and Python answers SIGINT with a traceback while it starts up.
            self._child.terminate()

    @contextmanager
    def listening(self, *signums: signal.Signals) -> Iterator["ChildProcess"]:
        """Install handlers for these signals, and restore the former ones (main thread only).

        By default for all that ask a run to stop, but for those that are ignored, as under `nohup`.
        """
        from hw1.utils.signals import STOP_SIGNALS  # not in the script

        heard = signums or [signum for signum in STOP_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
        former = {signum: signal.signal(signum, self._receive) for signum in heard}
        try:
            yield self
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)


def _start(command: Sequence[str], output: BinaryIO | None = None) -> "subprocess.Popen[bytes]":
    """Start this file as a script, which then becomes the command.

    A process group of its own keeps Ctrl-C from reaching the child twice. `-I` keeps this folder, whose modules may have names of the
    standard library's, out of Python's path. `preexec_fn` would need neither, but is not safe beside threads.
    """
    wrapper = [sys.executable, "-I", __file__, str(os.getpid())]
    return subprocess.Popen([*wrapper, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0)


def end_with_parent(signum: int) -> None:
    """Request this signal for the moment when this process's parent ends (Linux only); the request survives exec."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signum))


def _exec(parent: int, command: list[str]) -> None:
    """Replace this process by the command, which gets SIGTERM when the parent ends."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() == parent:  # else the parent ended before the request
        os.execv(command[0], command)


if __name__ == "__main__":
    _exec(int(sys.argv[1]), sys.argv[2:])
