"""SIGTERM and SIGINT at any moment, once or twice."""

import random
import signal
import time
from pathlib import Path

from faults.processes import Bench, expect_clear, expect_gone, expect_no_leftovers, expect_same_run, last_in, updates_in, wait_for
from faults.tally import Tally, expect
from hw1.checkpoint import load_newest, load_state
from hw1.interrupt import ECHO_SECONDS

SECONDS = 30.0


def stop_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """A valid checkpoint within one step, the exit code of the signal, the way to go on; and the run goes on as if nothing had been."""
    bench = Bench(folder)
    for i in range(n):
        rng, runs = random.Random(f"stop {i}"), folder / f"stop{i}"
        signum = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with tally.attempt(f"{signum.name}, number {i}"):
            log = folder / f"stop{i}.log"
            settings = [f"data.num_workers={(0, 2)[i // 2 % 2]}", "checkpoint.every_steps=1000"]
            process = bench.start(runs, *settings, log_samples=[str(log)])
            batches = rng.randrange(1, 14)
            process.wait_until(lambda log=log, batches=batches: log.is_file() and len(log.read_text().splitlines()) >= batches)
            children = process.children()
            done = len(log.read_text().splitlines())
            process.send(signum)
            process.wait(SECONDS)
            expect_gone(children)
            expect_no_leftovers(runs)
            if process.code != 0:  # else it was done before it was told
                expect_clear(process, 128 + signum, "stopping after this step", "the same command continues it")
                trained = len(log.read_text().splitlines())
                progress = load_state(last_in(runs))["progress"]
                expect(progress["epoch"] * 7 + progress["step"] == trained, f"{progress} after {trained} batches")
                expect(trained <= done + 4, f"went on from {done} to {trained} batches")  # one step is two, and some passed meanwhile
                bench.finish(runs, *settings)
            expect_same_run(runs, bench.reference())


def second_signal(tally: Tally, folder: Path, n: int) -> None:
    """Another signal, while the first one's checkpoint is written slowly: the process ends at once, and what was there is whole."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"twice{i}"
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, "train.epochs=10000", slow_writing=[0.05])
            process.wait_until(lambda runs=runs: updates_in(runs) >= 2)
            process.send(signal.SIGTERM)
            first = time.monotonic()
            wait_for(lambda first=first: time.monotonic() > first + ECHO_SECONDS + 0.2, 60, "")
            process.send((signal.SIGINT, signal.SIGTERM)[i % 2])
            process.wait(SECONDS)
            expect_clear(process, process.code or -1, "stopping after this step")
            expect(process.code in (130, 143), f"exit code {process.code}")
            state, damaged = load_newest(last_in(runs), last_in(runs).with_name("previous.pt"))
            expect(not damaged and state["progress"]["updates"] >= 2, f"damaged: {damaged}")
            bench.finish(runs, f"train.epochs={state['progress']['epoch'] + 1}")
            expect_no_leftovers(runs)
