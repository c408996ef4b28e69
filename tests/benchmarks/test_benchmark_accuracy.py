"""The table of finished runs: how far apart two recipes are."""

import math
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.accuracy.__main__ import difference


def run_of(name: str, seed: int, top1: float) -> dict[str, Any]:
    return {"recipe": {"run": {"name": name}, "seed": seed}, "epochs": [{"val_top1": 0.1}, {"val_top1": top1}]}


def test_two_recipes_are_paired_by_seed() -> None:
    runs = [run_of("a", 0, 0.5), run_of("a", 1, 0.6), run_of("b", 1, 0.65), run_of("b", 0, 0.52), run_of("a", 2, 0.7), run_of("b", 2, 0.71)]
    apart = np.array([0.02, 0.05, 0.01])
    half = stats.t.ppf(0.975, 2) * apart.std(ddof=1) / math.sqrt(3)
    said = difference(runs)
    assert said is not None
    assert said.startswith(f"`b` minus `a`, last epoch, 3 seeds: {apart.mean():+.4f} (95% t interval {apart.mean() - half:+.4f} to ")
    assert f"{apart.mean() + half:+.4f}" in said


def test_nothing_is_said_of_other_seeds_or_one_recipe() -> None:
    assert difference([run_of("a", 0, 0.5), run_of("b", 1, 0.6)]) is None
    assert difference([run_of("a", 0, 0.5), run_of("a", 1, 0.6)]) is None
    assert difference([run_of("a", 0, 0.5), run_of("b", 0, 0.75)]) == "`b` minus `a`, last epoch, 1 seeds: +0.2500"
