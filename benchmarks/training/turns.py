"""Loops that take turns: each trains a few steps, then the next, round after round, so that a machine that drifts drifts for all."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch

from benchmarks.common.timing import Clock, summarise
from benchmarks.training.case import Case, make_batches
from benchmarks.training.device import DeviceMemory, synchronize
from benchmarks.training.loops import build_loop

Turn = Callable[[], int]
"""Does its share of work, waits for the device, and returns the number of images."""


class LoopTurn:
    """A loop's turn: `steps` steps on the batches, over and over."""

    def __init__(self, key: str, case: Case, device: torch.device) -> None:
        self._memory = DeviceMemory(device)
        self.loop = build_loop(key, case, device)
        self.device = device
        self.steps = 1
        self.batches = make_batches(case, device, channels_last=self.loop.channels_last)
        self.first_loss = self.loop.first_loss(self.batches[0])
        self._next = cycle(self.batches)

    def __call__(self) -> int:
        self.loop.begin()
        images = 0
        for _ in range(self.steps):
            batch = next(self._next)
            self.loop.step(batch)
            images += len(batch.label)
        synchronize(self.device)
        return images

    def warm_up(self, steps: int, seconds: float) -> float:
        """Takes so many steps, of which the first compiles, and makes a turn as long as `seconds`, at least one step; seconds it took."""
        start = time.perf_counter()
        self.steps = steps
        self()
        warm = time.perf_counter()
        self.steps = 1
        self()
        once = time.perf_counter() - warm
        self.steps = min(max(round(seconds / once), 1), 100)
        return warm - start

    def why_not_as_asked(self) -> str | None:
        """After the first steps: what of its way it did not do; None where it did all."""
        return self.loop.why_not_as_asked()

    def device_memory(self) -> dict[str, float] | None:
        """How far the loop has raised the device's memory, MiB; None on the CPU."""
        return self._memory.peak()


def time_turns(
    turns: Mapping[str, Turn],
    *,
    rounds: int,
    until: float = float("inf"),
    clock: Clock = time.perf_counter,
    after: Callable[[dict[str, list[float]]], None] = lambda rates: None,
) -> dict[str, list[float]]:
    """Images/s of each turn in each of `rounds`; in every round each has one turn, in another order.

    Once `clock` is past `until` no further round begins, but for the first. `after` gets the rates so far after every round.
    """
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {key: [] for key in turns}
    for number in range(rounds):
        if number and clock() > until:
            break
        for key in rng.permutation(list(turns)).tolist():
            start = clock()
            images = turns[key]()
            rates[key].append(images / (clock() - start))
        after(rates)
    return rates


def compare(rates: Mapping[str, list[float]], peers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Median and quartiles of the rates, and their ratios, round by round, to those of named `peers` (name -> key of `rates`)."""
    results: dict[str, dict[str, Any]] = {}
    for key, values in rates.items():
        row = summarise({key: values}, {key: key})[key]
        results[key] = {name: row[name] for name in ("images_per_second", "median", "quartiles")} | {"ratios": {}}
    for name, peer in peers.items():
        for key, row in summarise(rates, dict.fromkeys(rates, peer)).items():
            results[key]["ratios"][name] = {"to": peer, "ratio": row["ratio"], "quartiles": row["ratio_quartiles"]}
    return results


def fastest(rates: Mapping[str, list[float]], keys: Sequence[str]) -> str | None:
    """Of `keys` the one with the highest median; None where none was measured."""
    measured = [key for key in keys if rates.get(key)]
    return max(measured, key=lambda key: float(np.median(rates[key]))) if measured else None
