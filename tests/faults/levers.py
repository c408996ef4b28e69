"""kill -9 under timm's optimizers, schedules and losses, with stages that are trained from the second epoch on."""

import random
import shutil
import signal
from pathlib import Path

from helpers.train_commands import rows_without_times

from faults.processes import Bench, assert_equal_states, last_in, run_in, updates_in
from faults.tally import Tally, expect
from hw1.runs.checkpoint import load_state

UPDATES = 8
THAW = "freeze.until_epoch=1"
COMBINATIONS = (
    ("optim.name=sgd", "sched.name=poly", "loss.name=bce", "mixup.cutmix_alpha=1.0", "mixup.mode=pair", THAW),
    ("optim.name=lamb", "sched.name=step", "sched.decay_epochs=0.5", "loss.name=poly", "mixup.mode=elem", "train.best_by=macro_f1", THAW),
    ("optim.name=lion", "sched.name=multistep", "sched.milestones=[0.5, 1.5]", "loss.name=asl", "mixup.prob=0", "optim.layer_decay=0.7"),
    ("optim.name=muon", "sched.name=cosine", "sched.warmup_epochs=0.5", "optim.head_lr_scale=3.0", "train.best_by=loss", THAW),
    ("optim.name=adan", "sched.name=constant", "optim.kwargs={eps: 1e-6}", "mixup.cutmix_alpha=1.0", "mixup.off_epoch=1"),
    ("optim.name=rmsproptf", "optim.layer_decay=0.5", "optim.decay_norm_bias=false", "train.best_by=balanced_accuracy", THAW),
)


def kill_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """`n` runs, killed after any optimizer step but the last, and the same without: states, metrics and best weights are the same bits."""
    bench = Bench(folder)
    for i in range(n):
        settings = COMBINATIONS[i % len(COMBINATIONS)]
        killed, whole = folder / f"killed{i}", folder / f"whole{i}"
        after = random.Random(f"levers {i}").randrange(1, UPDATES - 1)
        with tally.attempt(f"{settings[0]}, killed after update {after}, number {i}"):
            bench.finish(whole, *settings)
            process = bench.start(killed, *settings)
            process.wait_until(lambda killed=killed, after=after: updates_in(killed) >= after)
            process.kill()
            bench.finish(killed, *settings)
            expect_same_bits(killed, whole)
        shutil.rmtree(killed, ignore_errors=True)
        shutil.rmtree(whole, ignore_errors=True)


def kill_ranks_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """The same with two processes that train together, killed in the first epoch or, with other stages trained, in the second."""
    bench = Bench(folder, per_class=1)
    for i in range(n):
        settings = COMBINATIONS[i % 2]
        killed, whole = folder / f"killed{i}", folder / f"whole{i}"
        with tally.attempt(f"{settings[0]}, two processes, number {i}"):
            bench.finish_ranks(2, whole, *settings)
            processes = bench.start_ranks(2, killed, *settings)
            processes[0].wait_until(lambda killed=killed, after=3 - 2 * (i % 2): updates_in(killed) >= after)
            for process in processes:
                process.send(signal.SIGKILL)
            for process in processes:
                process.wait()
            bench.finish_ranks(2, killed, *settings)
            expect_same_bits(killed, whole)
        shutil.rmtree(killed, ignore_errors=True)
        shutil.rmtree(whole, ignore_errors=True)


def expect_same_bits(runs: Path, other: Path) -> None:
    """States, metrics and best weights; the schedules here have no state of their own."""
    assert_equal_states(load_state(last_in(runs)), load_state(last_in(other)))
    expect(rows_without_times(run_in(runs)) == rows_without_times(run_in(other)), "other metrics")
    best, other_best = (run_in(each) / "checkpoints" / "best.safetensors" for each in (runs, other))
    expect(best.read_bytes() == other_best.read_bytes(), "other best weights")
