"""Several real processes: together they compute what one does, agree on everything, and end with the same bits however they were ended."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.processes import Bench, Process, call_ranks, expect_same_run, last_in, run_in, updates_in

from hw1.runs.checkpoint import load_state

pytestmark = pytest.mark.slow
MISTAKES = {
    "optim.lrr=1": "command line: optim.lrr: unknown key; nearest: optim.lr",
    "data.root=nowhere": "command line: data.root: nowhere: no such folder",
    "train.sync_bn=true": "train.sync_bn: torch has it for GPUs only, not for 2 processes on the cpu; set it to false",
    "data.batch_size=1": "data.batch_size: 2 processes cannot share 1 images; start fewer, or raise it",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), per_class=1)  # 4 batches an epoch in windows of 2, the last one smaller


def ends(processes: Sequence[Process]) -> list[int]:
    return [process.wait() for process in processes]


def wait_for_updates(num: int, runs: Path, processes: Sequence[Process]) -> None:
    processes[0].wait_until(lambda: updates_in(runs) >= num)
    assert [process.poll() for process in processes] == [None] * len(processes), [process.output for process in processes]


def assert_told_once(processes: Sequence[Process], *messages: str) -> None:
    """By rank 0, and nothing else by anyone."""
    main, *others = [process.output for process in processes]
    for message in messages:
        assert main.count(message) == 1, main
    assert "Traceback" not in main, main
    assert others == [""] * len(others)


def test_three_processes_compute_what_one_does(tmp_path: Path) -> None:
    call_ranks(3, tmp_path, "helpers.rank_checks.main", str(tmp_path))
    said = [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(3)]
    assert said == ["hello of rank 0\n", "", ""]


def test_a_process_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    call_ranks(2, tmp_path, "helpers.rank_checks.hang", str(tmp_path))


def test_killed_and_continued_they_end_with_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    """Three: of two, a sum has the same bits in any order."""
    reference, runs = tmp_path / "reference", tmp_path / "killed"
    whole = bench.finish_ranks(3, reference)
    assert_told_once(whole, "on 3 processes, each with cpu", "epoch 2/2", "best val top-1")
    processes = bench.start_ranks(3, runs)
    wait_for_updates(1, runs, processes)
    for process in processes:
        process.send(signal.SIGKILL)
    assert ends(processes) == [-signal.SIGKILL] * 3
    assert 1 <= updates_in(runs) < 4
    assert_told_once(bench.finish_ranks(3, runs), "continues in epoch", "best val top-1")
    expect_same_run(runs, reference)


def test_a_signal_to_one_stops_all_and_another_number_goes_on(bench: Bench, tmp_path: Path) -> None:
    runs = tmp_path / "stopped"
    processes = bench.start_ranks(2, runs, "checkpoint.every_steps=1000", "train.epochs=1000")
    main = processes[0]
    main.wait_until(lambda: run_in(runs).joinpath("samples.png").is_file())
    second = bench.start_ranks(2, runs)
    assert ends(second) == [2, 2]
    assert_told_once(second, f"{run_in(runs)}: another process is training this run\n")
    processes[1].send(signal.SIGTERM)
    assert ends(processes) == [143, 143]
    assert_told_once(processes, "interrupted, saved at epoch")
    state = load_state(last_in(runs))
    assert state["num_processes"] == 2
    on_three = bench.finish_ranks(3, runs, f"train.epochs={state['progress']['epoch'] + 1}")
    assert_told_once(on_three, "trained by 2 processes so far, by 3 from here on", "best val top-1")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_once(bench: Bench, tmp_path: Path, mistake: str) -> None:
    runs = tmp_path / "none"
    processes = bench.start_ranks(2, runs, mistake)
    assert ends(processes) == [2, 2]
    assert processes[0].output.splitlines()[-1].endswith(MISTAKES[mistake]), processes[0].output
    assert_told_once(processes, MISTAKES[mistake])
    assert not runs.exists()


def test_where_one_dies_none_waits(bench: Bench, tmp_path: Path) -> None:
    runs = tmp_path / "dying"
    processes = bench.start_ranks(3, runs, "train.epochs=1000")
    wait_for_updates(1, runs, processes)
    processes[1].send(signal.SIGKILL)
    began = time.monotonic()
    assert ends(processes) == [3, -signal.SIGKILL, 3]
    assert time.monotonic() - began < 30
    assert_told_once(processes, "another process of this run has died or cannot be reached; the same command continues")
