"""Time and memory of a process with its children (Linux)."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hw1.errors import RunError

POLL_SECONDS = 0.1


class Usage(NamedTuple):
    """What a process and its children take: user and system time together, time on the clock, and most memory at a time."""

    processor_seconds: float
    wall_seconds: float
    peak_mib: float
    """Proportional set size, seen ten times a second: pages that processes share count once."""


def run_measured(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Usage:
    """Run a command to its end.

    Raises:
        RunError: It fails; with the end of what it wrote to stderr.
    """
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, is_done = [0.0], threading.Event()

    def watch() -> None:
        while not is_done.wait(POLL_SECONDS):
            peak[0] = max(peak[0], sum(map(_proportional_mib, _tree(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    wall = time.perf_counter() - start
    is_done.set()
    watcher.join()
    if process.returncode:
        raise RunError(f"{' '.join(command)}: exit code {process.returncode}: {errors[-1000:]}")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(round(processor, 2), round(wall, 2), round(peak[0], 1))


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # it has ended
            continue
        for child in children:
            yield from _tree(int(child))


def _proportional_mib(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
