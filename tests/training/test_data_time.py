"""The share of time that the device waits for data: measured on the clock, without synchronising, and what is said of it."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hw1.config.recipe import DataConfig, Recipe
from hw1.errors import RunError
from hw1.runs.folder import RunFolder
from hw1.runtime import cpu as workers
from hw1.training import data_time as wait
from hw1.training.data_time import DataTimer, advice
from hw1.training.reporter import Reporter

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def slow(count: int, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
    for number in range(count):
        sleep(seconds)
        yield number


@pytest.mark.parametrize(("load", "compute", "share"), [(0.03, 0.01, 0.75), (0.01, 0.03, 0.25), (0.0, 0.02, 0.0)])
def test_on_the_cpu_it_is_the_time_spent_in_asking(monkeypatch, load, compute, share):
    now, taken, seen = [0.0], 0.0, []
    monkeypatch.setattr(wait, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = DataTimer(CPU)
    for number in clock.over(slow(12, load, sleep)):
        seen.append(number)
        sleep(compute)
        taken += clock.take()
    taken += clock.take()
    assert taken / now[0] == pytest.approx(share)
    assert seen == list(range(12))
    assert clock.take() == 0.0


def test_errors_pass_and_the_time_until_then_counts():
    def broken() -> Iterator[int]:
        yield 1
        time.sleep(0.05)
        raise RunError("lost")

    clock = DataTimer(CPU)
    with pytest.raises(RunError, match="lost"):
        list(clock.over(broken()))
    assert clock.take() >= 0.05


class Device:
    """A stream with a clock of its own: an event happens when the work queued before it is done, kernels take as long as they are told."""

    def __init__(self, monkeypatch) -> None:
        self.host = self.busy_until = 0.0
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                device.busy_until = self.time = max(device.busy_until, device.host)

            def query(self) -> bool:
                return self.time <= device.host

            def elapsed_time(self, other: "Event") -> float:
                return (other.time - self.time) * 1000

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)

    def compute(self, seconds: float) -> None:
        self.busy_until = max(self.busy_until, self.host) + seconds

    def batches(self, count: int, load: float, copy: float = 0.0) -> Iterator[int]:
        """Each takes the host `load` seconds to get; the stream then waits until its copy has arrived."""
        for number in range(count):
            self.host += load
            self.busy_until = max(self.busy_until, self.host + copy)
            yield number


@pytest.mark.parametrize(
    ("load", "copy", "step", "per_step"),
    [
        (0.1, 0.0, 1.0, 0.0),  # the host waits for data and then for nothing, but the device never
        (1.0, 0.0, 0.25, 0.75),  # the device runs dry while the host waits
        (1.0, 0.5, 0.5, 0.5),  # ... and while the batch is copied
        (0.5, 0.25, 0.5, 0.0),  # ready at the moment at which the step before has ended
    ],
)
def test_on_cuda_it_is_the_time_between_the_end_of_a_step_and_the_next_batch(monkeypatch, load, copy, step, per_step):
    device, clock, taken = Device(monkeypatch), DataTimer(CUDA), 0.0
    steps = 8
    for _ in clock.over(device.batches(steps, load, copy)):
        device.compute(step)
        taken += clock.take()
    device.host = device.busy_until  # as after the synchronisation at the end of the epoch
    taken += clock.take()
    assert taken == pytest.approx(load + copy + per_step * (steps - 1))
    assert clock.take() == 0.0


def test_on_cuda_nothing_is_read_before_it_has_happened(monkeypatch):
    device, clock = Device(monkeypatch), DataTimer(CUDA)
    batches = clock.over(device.batches(3, 0.1))
    next(batches)
    assert clock.take() == pytest.approx(0.1)
    device.compute(100.0)
    next(batches)
    assert clock.take() == 0.0
    assert len(clock._events) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("load", "waits"), [(0.0, False), (0.05, True)])
def test_a_real_device_waits_when_the_host_is_late(load, waits):
    clock, taken = DataTimer(CUDA), 0.0
    began = time.perf_counter()
    for _ in clock.over(slow(10, load)):
        torch.cuda._sleep(20_000_000)
        taken += clock.take()
    torch.cuda.synchronize()
    taken += clock.take()
    share = taken / (time.perf_counter() - began)
    assert share > 0.5 if waits else share < 0.05


# --- advice ---


@pytest.mark.parametrize(
    ("device", "config", "expected"),
    [
        (CUDA, {"num_workers": 2}, "data.num_workers=8 or data.cache=disk"),
        (CUDA, {}, "data.cache=disk"),  # as many processes as cores already
        (CUDA, {"cache": "disk"}, None),
        (CPU, {"num_workers": 0}, "data.cache=disk"),
        (CPU, {"cache": "disk"}, None),
    ],
)
def test_advice_names_what_is_not_done_yet(monkeypatch, device, config, expected):
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    assert advice(DataConfig(**config), device) == expected


def test_advice_is_given_once_a_run_and_only_where_it_is_worth_it(tmp_path, capsys):
    rows: list[Any] = []
    reporter = Reporter(RunFolder(tmp_path), Recipe(), rows)
    said = []
    for row in ({"epoch": 1}, {"data_wait": 0.02}, {"data_wait": 0.234}, {"data_wait": 0.5}, {"data_wait": 0.01}, {"data_wait": 0.5}):
        rows.append({"seconds": 60.0, **row})
        reporter._advise(lambda: advice(Recipe().data, CPU))
        said.append(capsys.readouterr().err)
    assert said == ["", "", f"{tmp_path}: 23% of the epoch went by in waiting for images; data.cache=disk would shorten that\n", "", "", ""]


def test_epochs_of_seconds_get_no_advice(tmp_path, capsys):
    """Starting the processes that load takes most of them."""
    rows: list[Any] = []
    reporter = Reporter(RunFolder(tmp_path), Recipe(), rows)
    for seconds in (3.0, 29.0, 31.0):
        rows.append({"data_wait": 0.5, "seconds": seconds})
        reporter._advise(lambda: advice(Recipe().data, CPU))
        assert bool(capsys.readouterr().err) == (seconds > 30)
