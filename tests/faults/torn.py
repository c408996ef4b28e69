"""Checkpoints cut short or with one bit changed: each is noticed, none is loaded, the previous one is used."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers.train_commands import rows_without_times

from faults.processes import Bench, assert_equal_states, expect_clear, last_in, run_in
from faults.tally import Tally, expect
from hw1.errors import UserError
from hw1.runs.checkpoint import load_newest, load_state, load_weights, save_state, save_weights
from hw1.runs.folder import RunFolder


def damaged(data: bytes, rng: random.Random, kind: str) -> bytes:
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    bit = rng.randrange(len(data) * 8)
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def torn_states(tally: Tally, folder: Path, n: int) -> None:
    """`n` cuts and `n` flipped bits of the newest state."""
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    for step in (1, 2):
        save_state(run.state_file(0, step), {"step": step, "model": {"w": torch.randn(64, 64)}, "classes": ["a", "b"]})
    newest = run.state_files()[0]
    whole = newest.read_bytes()
    for kind in ("cut", "bit"):
        for i in range(n):
            with tally.attempt(f"{kind} {i}"):
                newest.write_bytes(damaged(whole, random.Random(f"{kind} {i}"), kind))
                expect_refused(load_state, newest)
                state, problems = load_newest(run.state_files())
                expect(state["step"] == 1 and problems and problems[0].startswith(str(newest)), f"step {state['step']}, {problems}")


def torn_weights(tally: Tally, folder: Path, n: int) -> None:
    """`n` cuts and `n` flipped bits of `best.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    best = folder / "best.safetensors"
    save_weights(best, {"w": torch.randn(64, 64), "b": torch.arange(9)}, {"classes": ["a", "b"], "epoch": 3})
    whole = best.read_bytes()
    for kind in ("cut", "bit"):
        for i in range(n):
            with tally.attempt(f"{kind} {i}"):
                best.write_bytes(damaged(whole, random.Random(f"{kind} {i}"), kind))
                expect_refused(load_weights, best)


def torn_runs(tally: Tally, folder: Path, n: int) -> None:
    """`n` whole runs that go on from a damaged state, to the bit as if it had been whole."""
    bench = Bench(folder)
    for i in range(n):
        kind = ("cut", "bit")[i % 2]
        with tally.attempt(f"{kind} {i}"):
            runs = folder / f"torn{i}"
            shutil.copytree(bench.reference(), runs)
            (run_in(runs) / "summary.json").unlink()
            last = last_in(runs)
            expected = load_state(last)
            last.write_bytes(damaged(last.read_bytes(), random.Random(f"run {i}"), kind))
            process = bench.finish(runs)
            expect_clear(process, 0, f"{last}: damaged", "is used instead")
            assert_equal_states(load_state(last), expected)
            expect(rows_without_times(run_in(runs)) == rows_without_times(run_in(bench.reference())), "other metrics")


def expect_refused(load: Callable[[Path], Any], path: Path) -> None:
    try:
        load(path)
    except UserError as error:
        expect(str(error).startswith(f"{path}: ") and "\n" not in str(error), f"unclear: {error}")
        return
    expect(False, "was loaded")
