"""Signals that stop at any moment, once or twice, to small models and a large one, and while the loader hangs."""

import math
import os
import random
import signal
import time
from pathlib import Path

from faults.processes import (
    Bench,
    Process,
    expect_clear,
    expect_gone,
    expect_no_leftovers,
    expect_same_run,
    last_in,
    run_in,
    states_in,
    updates_in,
    wait_for,
)
from faults.tally import Tally, expect
from hw1.runs.checkpoint import load_newest, load_state
from hw1.utils.signals import ECHO_SECONDS, STOP_SIGNALS

SECONDS = 30.0
TIME = "s from the signal to the end at most"
WINDOW = 2  # batches of an optimizer step


def stop_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """A valid checkpoint within one step, the exit code of the signal, the way to go on; and the run goes on as if nothing had been."""
    bench = Bench(folder)
    for i in range(n):
        rng, runs = random.Random(f"stop {i}"), folder / f"stop{i}"
        signum = signal.Signals(STOP_SIGNALS[i % len(STOP_SIGNALS)])
        with tally.attempt(f"{signum.name}, number {i}"):
            log = folder / f"stop{i}.log"
            settings = [f"data.num_workers={(0, 2)[i // 2 % 2]}", "checkpoint.every_steps=1000"]
            process = bench.start(runs, *settings, log_samples=[str(log)], log_signals=[str(log)])
            batches = rng.randrange(1, 14) if i % 3 < 2 else None  # None: the first validation
            process.wait_until(lambda log=log, batches=batches: _has_come_to(log, batches))
            children = process.children()
            _stop(tally, process, signum)
            expect_gone(children)
            expect_no_leftovers(runs)
            lines = lines_of(log)
            if process.code != 0:  # else it was done before it was told
                expect_clear(process, 128 + signum, "stopping after this step", "the same command continues it")
                trained = _num_batches(lines)
                progress = load_state(last_in(runs))["progress"]
                expect(progress["epoch"] * 7 + progress["step"] == trained, f"{progress} after {trained} batches")
                after = _num_batches(lines[lines.index("signal") :])
                expect(after <= WINDOW, f"went on after the signal: {after} batches")
                tally.seen["in validation" if lines[-2:] == ["validation", "signal"] else "in training"] += 1
                bench.finish(runs, *settings, log_samples=[str(log)])
            expect_same_run(runs, bench.reference())
            done = [line for line in lines_of(log) if line[0].isdigit()]
            expect(done == lines_of(folder / "reference.log"), "a batch is missing, other or done twice")


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.is_file() else []


def _num_batches(lines: list[str]) -> int:
    return sum(line[0].isdigit() for line in lines)


def _has_come_to(log: Path, batches: int | None) -> bool:
    lines = lines_of(log)
    return "validation" in lines if batches is None else _num_batches(lines) >= batches


def _stop(tally: Tally, process: Process, signum: int, seconds: float = SECONDS) -> None:
    """Sends the signal and waits for the end, which must come in time."""
    told = time.monotonic()
    process.send(signum)
    process.wait(seconds)
    tally.seen[TIME] = max(tally.seen[TIME], math.ceil(time.monotonic() - told))


def stop_large(tally: Tally, folder: Path, n: int) -> None:
    """The report's largest model, with averages of its weights, has 1.3 GB to save; it is in time all the same, and goes on."""
    bench = Bench(folder, per_class=1)
    settings = ["model.name=resnext101_32x8d_cbam", "data.batch_size=4", "train.grad_accum=1", "train.epochs=10000"]
    settings += ["checkpoint.every_steps=1000", "model.drop_layer3=0"]
    for i in range(n):
        runs, log = folder / f"runs{i}", folder / f"large{i}.log"
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, *settings, log_samples=[str(log)])
            process.wait_until(lambda log=log: len(lines_of(log)) >= 3)
            _stop(tally, process, signal.SIGTERM, 4 * SECONDS)  # a step alone takes several on a busy machine
            expect_clear(process, 143, "the same command continues it")
            expect_no_leftovers(runs)
            state = load_state(last_in(runs))
            expect(state["progress"]["step"] == len(lines_of(log)), f"{state['progress']}")
            tally.seen["MB saved"] = last_in(runs).stat().st_size // 10**6
            done = len(lines_of(log))
            process = bench.start(runs, *settings, log_samples=[str(log)])
            process.wait_until(lambda log=log, done=done: len(lines_of(log)) > done)
            expect(f"at step {state['progress']['step']}" in process.output, process.output)
            process.kill()


def stop_hung(tally: Tally, folder: Path, n: int) -> None:
    """Told to stop while its loader gives nothing: the state before the step that waits is saved, and in time."""
    bench = Bench(folder)
    for i in range(n):
        runs, log = folder / f"runs{i}", folder / f"hung{i}.log"
        settings = ["data.num_workers=2", "checkpoint.every_steps=1000"]
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, *settings, log_samples=[str(log)])
            process.wait_until(lambda log=log, i=i: len(lines_of(log)) >= 1 + i % WINDOW)
            children = process.children()
            for child in children:
                os.kill(child, signal.SIGSTOP)
            _wait_until_it_hangs(log)
            _stop(tally, process, (signal.SIGTERM, signal.SIGINT)[i % 2])
            expect_clear(process, (143, 130)[i % 2], "the same command continues it")
            expect_gone(children)
            progress = load_state(last_in(runs))["progress"]
            trained = len(lines_of(log)) - 7 * progress["epoch"]
            expect(progress["step"] == (trained if trained == 7 else trained // WINDOW * WINDOW), f"{progress} after {trained} batches")
            bench.finish(runs, *settings)
            expect_same_run(runs, bench.reference())


def _wait_until_it_hangs(log: Path, seconds: float = 3.0) -> None:
    """Until no batch was trained on for so long: those that were ready are used up."""
    while True:
        before = lines_of(log)
        time.sleep(seconds)
        if lines_of(log) == before:
            return


def second_signal(tally: Tally, folder: Path, n: int) -> None:
    """Another signal, while the first one's checkpoint is written slowly: the process ends at once, and what was there is whole."""
    bench = Bench(folder)
    for i in range(n):
        runs, second = folder / f"twice{i}", (signal.SIGINT, signal.SIGTERM)[i % 2]
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, "train.epochs=10000", slow_writing_when_told_to_stop=[0.1])
            process.wait_until(lambda runs=runs: updates_in(runs) >= 2)
            process.send(signal.SIGTERM)
            wait_for(lambda process=process: "stopping after this step" in process.output, 60, "the first signal is not heard")
            heard = time.monotonic()
            wait_for(lambda runs=runs: _is_writing(runs), 60, "nothing is written after the first signal")
            wait_for(lambda heard=heard: time.monotonic() > heard + ECHO_SECONDS + 0.2, 60, "")
            process.send(second)
            process.wait(SECONDS)
            expect_clear(process, 128 + second, "stopping after this step")
            expect(_is_writing(runs), "the first signal's checkpoint was done before the second signal")
            state, damaged = load_newest(states_in(runs))
            expect(not damaged and state["progress"]["updates"] >= 2, f"damaged: {damaged}")
            bench.finish(runs, f"train.epochs={state['progress']['epoch'] + 1}")
            expect_no_leftovers(runs)


def _is_writing(runs: Path) -> bool:
    return any((run_in(runs) / "checkpoints").glob(".epoch*.tmp"))
