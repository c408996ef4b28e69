"""Numbers that are not finite, and a device without memory."""

import random
from pathlib import Path

import torch
from train_commands import assert_equal

from faults.processes import Bench, expect_clear, last_in, updates_in
from faults.tally import Tally, expect
from hw1.checkpoint import load_state

WINDOW = 2  # batches of an optimizer step


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
                assert_equal(state, load_state(last_in(other)), but=("epoch_seconds", "seconds", "wandb_id"))
            expect(all(torch.isfinite(tensor).all() for tensor in state["model"].values()), "a weight is not finite")


def out_of_memory(tally: Tally, folder: Path, n: int) -> None:
    """One line with the advice, and the newest checkpoint as it was. No GPU: the error is raised by hand."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            process = bench.start(runs, out_of_memory_at=[5 + i])
            process.wait()
            expect_clear(process, 3, "out of memory on the device; the same updates in less memory: data.batch_size=15 train.grad_accum=4")
            expect(updates_in(runs) == (4 + i) // WINDOW if i < 3 else True, f"{updates_in(runs)} updates are safe")
            bench.finish(runs)
