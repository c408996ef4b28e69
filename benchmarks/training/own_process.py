"""What is timed on a CPU, in a process of its own, as every training has: which memory and threads it finds there is its own affair.

In one process with others it would find the heap as they leave it. glibc gives the end of the heap back to the system after a step and
asks for it anew in the next, page by page; what others hold at the end of a shared heap prevents that.
"""

import multiprocessing
import signal
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

    def peak_memory(self) -> float:
        """How far the process has raised its memory, MiB."""
        return float(self._process.submit(_growth).result())

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

    def peak_memory(self) -> None:
        """What this process holds is not of one."""

    def close(self) -> None:
        """Frees what was built."""
        del self.built


def _prepare(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    prepare_process()
    torch.set_num_threads(threads)
    _start.append(high_water_mark())


def _build(build: Callable[..., Any], *values: Any) -> None:
    _built.append(build(*values))


def _ask(name: str, *values: Any) -> Any:
    return _get(_built[0], name, *values)


def _get(built: Any, name: str, *values: Any) -> Any:
    found = getattr(built, name)
    return found(*values) if callable(found) else found


def _growth() -> float:
    return high_water_mark() - _start[0]
