"""SIGINT and SIGTERM as a request that the training loop honours at the next safe moment."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """`signum` is the first signal received, or None."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __call__(self) -> int | None:
        return self.signum

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:  # asked twice: go at once; whatever is on disk was written atomically
            os._exit(128 + signum)
        self.signum = signum

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Installs the handlers (main thread only) and puts the former ones back."""
        former = {signum: signal.signal(signum, self._receive) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)
