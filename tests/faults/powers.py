"""Takes from root the power to read what may not be read, so that permissions mean something to it too."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VERSION = 0x20080522  # of capget(2) and capset(2): two 32-bit words of each set
DAC_OVERRIDE_AND_READ_SEARCH = 0b110


def drop() -> tuple[int, int] | None:
    """For this thread and those it starts; returns what `restore` needs. None where there is nothing to drop."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    _call("capget", header, sets)
    former = sets[0], sets[3]
    _set_effective(former[0] & ~DAC_OVERRIDE_AND_READ_SEARCH, former[1])
    return former


@contextmanager
def dropped() -> Iterator[None]:
    former = drop()
    try:
        yield
    finally:
        if former is not None:
            _set_effective(*former)


def _set_effective(low: int, high: int) -> None:
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    sets[0], sets[3] = low, high
    _call("capset", header, sets)


def _call(name: str, *arguments: ctypes.Array[ctypes.c_uint32]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
