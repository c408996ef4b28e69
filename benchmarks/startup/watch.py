"""Run a program, and note when it prints what is waited for: seconds on the clock and of processor time since it was started."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hw1.errors import RunError

END = "end"
FIRST_LINE = rb"\S"
TICKS = os.sysconf("SC_CLK_TCK")


class Seconds(NamedTuple):
    """User and system time of a process and its children together, and time on the clock, since it was started."""

    processor: float
    wall: float


def watch(
    command: Sequence[str],
    marks: Mapping[str, bytes],
    *,
    folder: Path,
    env: Mapping[str, str],
    exit_codes: Collection[int] = (0,),
    stop_at: str | None = None,
) -> dict[str, Seconds]:
    """Run a command, and note when its output, of both streams through one pipe, first matches each of the `marks`.

    Args:
        command: The program and its arguments.
        marks: Regular expressions by name.
        folder: Where it runs.
        env: Variables that it gets beside those of this process.
        exit_codes: Those that are right.
        stop_at: The mark after which it is killed; without, it runs to its `END`, which is a mark, too.

    Raises:
        RunError: It ends otherwise, or without having printed what is waited for.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    found: dict[str, Seconds] = {}
    text = b""
    while stop_at not in found and (chunk := os.read(process.stdout.fileno(), 1 << 16)):
        now, text = time.perf_counter() - start, text + chunk
        for name in [name for name, pattern in marks.items() if name not in found and re.search(pattern, text)]:
            found[name] = Seconds(session_seconds(process.pid), now)
    if stop_at in found:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if stop_at not in found:
        found[END] = Seconds(usage.ru_utime + usage.ru_stime, time.perf_counter() - start)
        missing = [name for name in marks if name not in found]
        if process.returncode not in exit_codes or missing:
            raise RunError(
                f"{' '.join(command)}: exit code {process.returncode}, without {missing}: {text.decode(errors='replace')[-2000:]}"
            )
    return found


def session_seconds(session: int) -> float:
    """Return the processor time of all processes of a session, and of their children that have ended."""
    ticks = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS
