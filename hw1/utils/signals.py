"""SIGINT and SIGTERM as a request that the training loop honours at the next safe moment."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ECHO_SECONDS = 1.0
"""A signal this soon after the first is the same request: `timeout`, and wrappers that pass on Ctrl-C, send each twice."""


class StopRequest:
    """`signum` is the first signal received, or None; a `quiet` one says nothing of it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.signum: int | None = None
        self._quiet = quiet
        self._received_at = 0.0

    def __call__(self) -> int | None:
        return self.signum

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self._received_at = time.monotonic()
            if not self._quiet:
                with suppress(OSError):  # not print: the signal may have come in the middle of one
                    os.write(2, b"\nstopping after this step; another signal ends the process at once\n")
        elif time.monotonic() - self._received_at > ECHO_SECONDS:
            os._exit(128 + signum)  # whatever is on disk was written atomically

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Installs the handlers (main thread only) and puts the former ones back."""
        former = {signum: signal.signal(signum, self._receive) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)
