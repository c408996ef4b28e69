"""Peak memory of a piece of work, in a process of its own (Linux)."""

import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal


def peak_mebibytes(work: Callable[[], None], *, method: Literal["fork", "spawn"] = "fork") -> float:
    """How far `work` raises the resident memory of a process of its own, at most, MiB.

    The kernel's high-water mark of the process (VmHWM) less what it began with. `ru_maxrss` would be the larger of that and its parent's.
    What the process has imported when `work` begins is in neither; of libraries loaded later, images held and files mapped, all that was
    touched is. A process that is forked from this one has all of its imports; where this one has computed with threads of its own, `work`,
    which must then be picklable, needs a new process, spawned. Raises ValueError where `work` fails.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_run, args=(work, sender))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:
        raise ValueError(f"the process failed with exit code {process.exitcode}") from None
    finally:
        process.join()


def _run(work: Callable[[], None], sender: Connection) -> None:
    start = high_water_mark()
    work()
    sender.send(high_water_mark() - start)


def high_water_mark() -> float:
    """The most memory that this process has held so far, MiB: VmHWM, of which a child begins its own."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
