"""Collect what C libraries print on stderr: a line of libjpeg's does not name the file, and tells of damage that its caller never hears of.

glibc documents `stderr` as a variable that a program may set. While at least one thread collects, it names a stream whose writer is a
function of ours, which the printing thread itself calls: so every message comes to the thread that caused it. Elsewhere (macOS, musl)
nothing is collected, and messages go where they went.
"""

import atexit
import contextlib
import ctypes
import os
import sys
import threading
from typing import Self

UNBUFFERED, LOCKED_BY_CALLER = 2, 2  # _IONBF of stdio.h, FSETLOCKING_BYCALLER of stdio_ext.h
STDERR = 2

_Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Functions(ctypes.Structure):
    """`cookie_io_functions_t` of stdio.h."""

    _fields_ = (("read", ctypes.c_void_p), ("write", _Write), ("seek", ctypes.c_void_p), ("close", ctypes.c_void_p))


class _Thread(threading.local):
    collector: "LibraryMessages | None" = None


class _Redirection:
    """Lets the C variable `stderr` name our stream while at least one thread wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        libc = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(libc, "stderr")
        self._original = self._variable.value
        libc.fopencookie.argtypes, libc.fopencookie.restype = (ctypes.c_void_p, ctypes.c_char_p, _Functions), ctypes.c_void_p
        libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        set_locking = getattr(libc, "__fsetlocking")  # as an attribute the name would be mangled
        set_locking.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._writer = _Write(_write)  # which C goes on calling
        self._stream = libc.fopencookie(None, b"w", _Functions(write=self._writer))
        libc.setvbuf(self._stream, None, UNBUFFERED, 0)
        set_locking(self._stream, LOCKED_BY_CALLER)  # else a thread that prints would wait for the interpreter with the stream's lock held

    def begin(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._variable.value = self._stream

    def end(self) -> None:
        with self._lock:
            self._users = max(self._users - 1, 0)  # 0 already in a process that was forked from within
            if not self._users:
                self._variable.value = self._original

    def forget(self) -> None:
        """Begin anew: in a forked process, which has none of the other threads, and before the interpreter that `_write` needs ends."""
        self._lock = threading.Lock()
        self._users = 0
        self._variable.value = self._original


class LibraryMessages:
    """A context that collects what C libraries print on stderr in this thread. It costs a few microseconds, and cannot be nested."""

    def __init__(self) -> None:
        self.text = ""
        """What was printed; empty where that cannot be had."""

    def __enter__(self) -> Self:
        if _redirection is not None:
            _thread.collector = self
            _redirection.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if _redirection is not None:
            _redirection.end()
            _thread.collector = None


def _write(_cookie: int | None, text: int, size: int) -> int:
    content = ctypes.string_at(text, size)
    if _thread.collector is not None:
        _thread.collector.text += content.decode(errors="replace")
    else:  # from a library in another thread, which has nothing to do with this
        with contextlib.suppress(OSError):
            os.write(STDERR, content)
    return size


def _make_redirection() -> _Redirection | None:
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):  # elsewhere `stderr` may be a constant
        return None
    redirection = _Redirection()
    atexit.register(redirection.forget)
    os.register_at_fork(after_in_child=redirection.forget)
    return redirection


_thread = _Thread()
_redirection = _make_redirection()
COLLECTED = _redirection is not None
"""Whether messages can be collected on this system."""
