"""Signals that ask a run to stop, as a request that the training loop honours at the next safe moment."""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU") if hasattr(signal, name)
)
"""Ctrl-C; a batch system's end, or `docker stop`; a closed terminal; preemption at many sites; the end of the processor time."""
ECHO_SECONDS = 1.0
"""A signal this soon after the first is the same request: `timeout`, and wrappers that pass on Ctrl-C, send each twice."""


def ignore_at_exit() -> None:
    """Ignore all signals once the interpreter ends, when what was to be saved is, so that the exit code says what became of the work."""
    atexit.register(lambda: [signal.signal(signum, signal.SIG_IGN) for signum in STOP_SIGNALS])


class StopRequest:
    """Remember the first signal that asked to stop.

    Args:
        quiet: Say nothing when a signal arrives.
        exits: Another signal ends the process at once; without, as in a notebook, whose variables the user may want to keep, it raises
            `KeyboardInterrupt`.
    """

    def __init__(self, *, quiet: bool = False, exits: bool = True) -> None:
        self.signum: int | None = None
        """The first signal received, or None."""
        self._quiet = quiet
        self._exits = exits
        self._received_at = 0.0

    def __call__(self) -> int | None:
        """Return the first signal received, or None."""
        return self.signum

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self._received_at = time.monotonic()
            if not self._quiet:
                with suppress(OSError):  # not print: the signal may have come in the middle of one
                    what = "ends the process" if self._exits else "interrupts it"
                    os.write(2, f"\nstopping after this step; another signal {what} at once\n".encode())
        elif time.monotonic() - self._received_at > ECHO_SECONDS:
            if not self._exits:
                raise KeyboardInterrupt
            os._exit(128 + signum)  # whatever is on disk was written atomically

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Install the handlers and put the former ones back. Python has them in the main thread only: in another one nothing is heard.

        A signal that is ignored stays so: `nohup`, `trap ''` and shells' background jobs ignore some on purpose.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
        heard = [signum for signum, handler in former.items() if handler is not signal.SIG_IGN]
        for signum in heard:
            signal.signal(signum, self._receive)
        try:
            yield self
        finally:
            for signum in heard:
                signal.signal(signum, former[signum])
