"""Loader processes that are killed or stand still."""

import os
import random
import signal
import subprocess
from pathlib import Path

from helpers.train_commands import command

from faults.disks import can_mount
from faults.processes import Bench, expect_clear, expect_gone, states_in, updates_in
from faults.tally import Tally, expect
from hw1.runs.checkpoint import load_newest

PATIENCE = 3


def killed_workers(tally: Tally, folder: Path, n: int) -> None:
    _struck(tally, folder, n, signal.SIGKILL, 60, "killed by SIGKILL")


def hung_workers(tally: Tally, folder: Path, n: int) -> None:
    """Stopped by SIGSTOP, as one that waits for a network disk that never answers."""
    _struck(tally, folder, n, signal.SIGSTOP, PATIENCE, f"gave nothing for {PATIENCE} s and were ended")


def _struck(tally: Tally, folder: Path, n: int, signum: int, patience: int, message: str) -> None:
    """The run ends in time with the cause and the hint on data.num_workers, leaves no process and a whole checkpoint, and goes on."""
    bench = Bench(folder)
    for i in range(n):
        runs, rng = folder / f"runs{i}", random.Random(f"worker {i}")
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, "train.epochs=10000", "data.num_workers=2", impatient=[patience])
            process.wait_until(lambda runs=runs, i=i: updates_in(runs) >= 1 + i)
            children = process.children()
            expect(len(children) >= 2, f"loader processes: {children}; {process.output}")
            os.kill(rng.choice(children), signum)
            process.wait(90)
            expect_clear(process, 3, message, "lower data.num_workers")
            expect_gone(children)
            state, damaged = load_newest(states_in(runs))
            expect(not damaged, f"damaged: {damaged}")
            bench.finish(runs, f"train.epochs={state['progress']['epoch'] + 1}")


def no_shared_memory(tally: Tally, folder: Path, n: int) -> None:
    """A /dev/shm with less and less room, none at last: the run is right, or one line says where to make room; by the real command."""
    if not can_mount(folder / "probe"):
        tally.skipped.append("file systems cannot be mounted here (it takes Linux and root)")
        return
    bench = Bench(folder, per_class=1)
    for i in range(n):
        left = (0, 40, 20_000)[i % 3]  # KiB
        with tally.attempt(f"{left} KiB"):
            mount = f"mount -t tmpfs -o size={left + 64}k tmpfs /dev/shm && head -c 64K /dev/zero > /dev/shm/filler"
            train = subprocess.list2cmdline(command("train.py", bench.recipe, f"run.dir={folder}/runs{i}", "train.epochs=1"))
            script = f"{mount} && exec {train} data.num_workers=2"
            result = subprocess.run(["unshare", "-m", "bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
            expect("Traceback" not in result.stderr, result.stderr)
            if left > 1000:
                expect(result.returncode == 0, f"exit code {result.returncode}: {result.stderr}")
            elif result.returncode != 0:
                hint = "No space left on device); if /dev/shm is full, free it or give Docker more with --ipc=host or --shm-size=8g"
                expect(result.returncode == 3 and hint in result.stderr, f"exit code {result.returncode}: {result.stderr}")
            else:
                expect(left > 0, "was not refused")


def orphans(tally: Tally, folder: Path, n: int) -> None:
    """kill -9 of the training process: its loader's processes end by themselves."""
    bench = Bench(folder)
    for i in range(n):
        with tally.attempt(f"number {i}"):
            process = bench.start(folder / f"runs{i}", "train.epochs=10000", "data.num_workers=2")
            process.wait_until(lambda i=i: updates_in(folder / f"runs{i}") >= 1)
            children = process.children()
            expect(len(children) >= 2, f"loader processes: {children}")
            process.kill()
            expect_gone(children)
