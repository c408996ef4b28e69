"""How much of the time saving takes; it is no fault, but a promise that others rest on."""

import json
from pathlib import Path

from faults.processes import Bench, run_in
from faults.tally import Tally, expect

MOST = 0.01
MINUTES = 0.2  # between two checkpoints: the recipe's own 5 would take 25 times less


def share_of_saving(tally: Tally, folder: Path, n: int) -> None:
    """ResNet-18 with averages of its weights at 64 pixels: the training waits for its checkpoints during less than 1 % of its time."""
    bench = Bench(folder, per_class=10)
    for i in range(n):
        runs, calls = folder / f"runs{i}", folder / f"calls{i}"
        with tally.attempt(f"number {i}"):
            settings = ["model.name=resnet18_cbam", "aug.size=64", "train.grad_accum=1", f"checkpoint.every_minutes={MINUTES}"]
            bench.finish(runs, *settings, "checkpoint.every_steps=null", "train.epochs=4", count_calls=[str(calls)])
            summary = json.loads((run_in(runs) / "summary.json").read_text())
            share = summary["saving_seconds"] / summary["seconds"]
            saved = json.loads(calls.read_text())["states"]
            expect(saved >= 3, f"saved {saved} times only")
            expect(share < MOST, f"saving took {share:.1%} of {summary['seconds']:.0f} s")
            tally.seen["hundredths of a percent of the time at most"] = max(
                tally.seen["hundredths of a percent of the time at most"], round(share * 10_000)
            )
            tally.seen["checkpoints"] += saved
