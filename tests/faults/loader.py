"""Loader processes that are killed or stand still."""

import os
import random
import signal
from pathlib import Path

from faults.processes import Bench, expect_clear, expect_gone, last_in, updates_in
from faults.tally import Tally, expect
from hw1.checkpoint import load_newest

PATIENCE = 3


def killed_workers(tally: Tally, folder: Path, n: int) -> None:
    _struck(tally, folder, n, signal.SIGKILL, "killed by SIGKILL")


def hung_workers(tally: Tally, folder: Path, n: int) -> None:
    """Stopped by SIGSTOP, as one that waits for a network disk that never answers."""
    _struck(tally, folder, n, signal.SIGSTOP, f"gave nothing for {PATIENCE} s and were ended")


def _struck(tally: Tally, folder: Path, n: int, signum: int, message: str) -> None:
    """The run ends in time with the cause and the hint on data.num_workers, leaves no process and a whole checkpoint, and goes on."""
    bench = Bench(folder)
    for i in range(n):
        runs, rng = folder / f"runs{i}", random.Random(f"worker {i}")
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, "train.epochs=10000", "data.num_workers=2", impatient=[PATIENCE])
            process.wait_until(lambda runs=runs, i=i: updates_in(runs) >= 1 + i)
            children = process.children()
            expect(len(children) >= 2, f"loader processes: {children}; {process.output}")
            os.kill(rng.choice(children), signum)
            process.wait(90)
            expect_clear(process, 3, message, "lower data.num_workers")
            expect_gone(children)
            state, damaged = load_newest(last_in(runs))
            expect(not damaged, f"damaged: {damaged}")
            bench.finish(runs, f"train.epochs={state['progress']['epoch'] + 1}")


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
