"""Numbers that are not finite, and a device without memory."""

import math
import random
from pathlib import Path

import torch

from faults.processes import Bench, assert_equal_states, expect_clear, expect_same_run, last_in, run_in, updates_in
from faults.tally import Tally, expect
from hw1.runs.checkpoint import load_state

WINDOW = 2  # batches of an optimizer step
UPDATES = 8


def not_finite(tally: Tally, folder: Path, n: int) -> None:
    """The run ends with the step and its images; what is saved is the state before that step, to the bit."""
    bench = Bench(folder)
    for i in range(n):
        rng, runs = random.Random(f"nan {i}"), folder / f"runs{i}"
        value, where = ("nan", "inf", "-inf")[i % 3], ("loss", "gradient")[i % 2]
        with tally.attempt(f"{value} in the {where}, number {i}"):
            count = rng.randrange(2, 7)
            good = (count - 1) // WINDOW  # optimizer steps before it
            process = bench.start(runs, "checkpoint.every_steps=1000", not_finite_at=[count, value, where])
            process.wait()
            expect_clear(process, 3, f"is not finite in epoch 1, step {good * WINDOW + 1}", "the images of this step: train/")
            state = load_state(last_in(runs))
            expect(state["progress"]["updates"] == good, f"{state['progress']}")
            if good:
                other = folder / f"other{i}"
                clean = bench.start(other, stop_after_updates=[good])
                clean.wait()
                expect(updates_in(other) == good, "the clean run did not stop where it should")
                assert_equal_states(state, load_state(last_in(other)))
            expect(all(torch.isfinite(tensor).all() for tensor in state["model"].values()), "a weight is not finite")


def skipped_by_scaler(tally: Tally, folder: Path, n: int) -> None:
    """An fp16 scaler that has to halve its scale many times leaves out as many steps, and raises no alarm."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            scale = 2.0 ** (22 + i)
            bench.finish(runs, in_fp16=[scale])
            left_out = round(math.log2(scale / load_state(last_in(runs))["scaler"]["scale"]))
            expect(0 < left_out < UPDATES, f"{left_out} steps were left out")
            tally.seen["steps left out by the scaler"] += left_out


def out_of_memory(tally: Tally, folder: Path, n: int) -> None:
    """One line with the advice, the state before the step saved; with memory the run goes on to the same bits.

    No GPU: memory is really taken from the process, by `setrlimit`, or torch's CUDA error is raised by hand.
    """
    bench = Bench(folder)
    for i in range(n):
        runs, batch, kind = folder / f"runs{i}", 3 + i, ("raised", "taken", "taken in validation")[i % 3]
        with tally.attempt(f"{kind}, number {i}"):
            hook = {"raised": "out_of_memory_at", "taken": "memory_taken_at"}.get(kind, "memory_taken_in_validation")
            arguments = [] if kind == "taken in validation" else [batch]
            process = bench.start(runs, "checkpoint.every_steps=1000", **{hook: arguments})
            process.wait()
            in_training = "the same updates in less memory: data.batch_size=15 train.grad_accum=4 --new"
            in_validation = "in validation; data.eval_batch_size=32 continues it"
            message = in_validation if kind == "taken in validation" else in_training
            expect_clear(process, 3, f"{run_in(runs)}: out of memory on the device", message)
            expected = 4 if kind == "taken in validation" else (batch - 1) // WINDOW
            expect(updates_in(runs) == expected, f"{updates_in(runs)} updates are safe, not {expected}: {process.output}")
            bench.finish(runs)
            expect_same_run(runs, bench.reference())
