"""What is timed on a CPU, in a process of its own, as every training has: which memory and threads it finds there is its own affair.

In one process with others it would find the heap as they leave it. glibc gives the end of the heap back to the system after a step and
asks for it anew in the next, page by page; what others hold at the end of a shared heap prevents that.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from benchmarks.common.memory import high_water_mark
from benchmarks.training.device import prepare_process

_built: list[Any] = []
"""In that process: what it is for."""
_start: list[float] = []
"""What its memory was before, MiB."""


class OwnProcess:
    """Builds something in a process that computes while it is asked and waits otherwise; raises here what fails there.

    Called, it calls what was built. `build` and everything that is passed must be picklable.
    """

    def __init__(self, build: Callable[..., Any], *values: Any) -> None:
        context = multiprocessing.get_context("forkserver")  # which imports once; its children begin without a thread
        context.set_forkserver_preload(["benchmarks.training.own_process", "benchmarks.training.loops"])
        self._process = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=(torch.get_num_threads(),))
        try:
            self._process.submit(_build, build, *values).result()
        except BaseException:
            self.close()
            raise

    def __call__(self) -> int:
        return int(self.ask("__call__"))

    def ask(self, name: str, *values: Any) -> Any:
        """Return an attribute of what was built, or what it gives if it is a method."""
        return self._process.submit(_ask, name, *values).result()

    def peak_memory(self) -> dict[str, float] | None:
        """How far the process has raised its memory, MiB."""
        return {"resident": round(self._process.submit(_growth).result(), 1)}

    def close(self) -> None:
        """Ends the process."""
        self._process.shutdown(cancel_futures=True)


class ThisProcess:
    """The same in the process that asks, for a device whose memory and threads are not a process's."""

    def __init__(self, build: Callable[..., Any], *values: Any) -> None:
        self.built = build(*values)

    def __call__(self) -> int:
        return int(self.built())

    def ask(self, name: str, *values: Any) -> Any:
        """See `OwnProcess`."""
        return _get(self.built, name, *values)

    def peak_memory(self) -> dict[str, float] | None:
        """How far what was built has raised the device's memory, MiB; None on the CPU, where this process holds more than that."""
        found: dict[str, float] | None = self.built.device_memory()
        return found

    def close(self) -> None:
        """Frees what was built."""
        del self.built


def start(build: Callable[..., Any], *values: Any, apart: bool, device: torch.device) -> OwnProcess | ThisProcess:
    """Build it, with `apart` in a process of its own if the device is the CPU."""
    return (OwnProcess if apart and device.type == "cpu" else ThisProcess)(build, *values)


def _prepare(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process()
    torch.set_num_threads(threads)
    _start.append(high_water_mark())


def _end_with_parent() -> None:
    """Where the process that asks is killed, nothing else tells this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _build(build: Callable[..., Any], *values: Any) -> None:
    _built.append(build(*values))


def _ask(name: str, *values: Any) -> Any:
    return _get(_built[0], name, *values)


def _get(built: Any, name: str, *values: Any) -> Any:
    found = getattr(built, name)
    return found(*values) if callable(found) else found


def _growth() -> float:
    return high_water_mark() - _start[0]
