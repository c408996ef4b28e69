"""Turn SIGINT and SIGTERM into a request to stop that a loop asks for between two steps."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ECHO_SECONDS = 1.0
"""A second signal within this time is taken for the first: `timeout`, and wrappers that pass on Ctrl-C, send each twice."""


class StopRequest:
    """Hold the first signal received; a second one ends the process at once, with exit code 128 + signal number.

    Args:
        quiet: Print nothing when a signal arrives.

    Attributes:
        signum: Number of the first signal, None before.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.signum: int | None = None
        self._quiet = quiet
        self._received_at = 0.0

    def __call__(self) -> int | None:
        """Return `signum`."""
        return self.signum

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self._received_at = time.monotonic()
            if not self._quiet:
                with suppress(OSError):  # not print: the signal may have interrupted one
                    os.write(2, b"\nstopping after this step; another signal ends the process at once\n")
        elif time.monotonic() - self._received_at > ECHO_SECONDS:
            os._exit(128 + signum)  # whatever is on disk was written atomically

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Install the handlers for the block, then restore the former ones. Main thread only."""
        former = {signum: signal.signal(signum, self._receive) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)
