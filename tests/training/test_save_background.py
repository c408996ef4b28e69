"""Saving beside the training: from a copy, one at a time, waited for at the end, and its errors seen in time."""

import threading
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny_training import loader_of, make, make_batches, newest, steps, stopped, trainer_of

from hw1.errors import Interrupted, RunError
from hw1.runs.checkpoint import load_state, load_weights
from hw1.runs.folder import RunFolder
from hw1.training import checkpointer
from hw1.training.checkpointer import write_checkpoints
from hw1.training.train_step import train_step
from hw1.utils.background import Background


class Slow:
    """Stands in for the writing: begins when told to, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.may_write = threading.Event()
        self.written = 0
        self.error = error
        monkeypatch.setattr(checkpointer, "write_checkpoints", self)

    def __call__(self, *arguments: object) -> None:
        assert self.may_write.wait(60)
        if self.error:
            raise self.error
        write_checkpoints(*arguments)  # type: ignore[arg-type]
        self.written += 1


def test_what_is_written_is_the_state_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TrainState goes on meanwhile, and changes every tensor of it."""
    training = make(train={"ema_decay": 0.9})
    steps(training, 8)
    slow, trainer = Slow(monkeypatch), trainer_of(training, tmp_path)
    training.progress.epoch, training.progress.step, training.progress.best_epoch = 1, 0, 1
    expected = {name: value.clone() for name, value in training.model.state_dict().items()}
    moment = next(iter(training.optimizer.state.values()))["exp_avg"].clone()
    average = {name: value.clone() for name, value in training.evaluated.state_dict().items()}
    trainer.save()
    train_step(training, make_batches(8)[0], loader_of(8, 8))
    slow.may_write.set()
    trainer.checkpointer.wait()
    state, (best, meta) = load_state(newest(tmp_path)), load_weights(tmp_path / "checkpoints/best.safetensors")
    assert (state["progress"]["updates"], meta["epoch"]) == (1, 1)
    assert not torch.equal(state["model"]["conv1.0.weight"], training.model.get_parameter("conv1.0.weight"))
    assert all(torch.equal(state["model"][name], value) for name, value in expected.items())
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], moment)
    assert all(torch.equal(best[name], value) for name, value in average.items())


def test_a_copy_shares_no_memory_and_keeps_the_order_of_memory() -> None:
    training = make()
    steps(training, 8)

    def tensors(value: object) -> list[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return [value]
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
        return [tensor for item in items for tensor in tensors(item)]

    own, copied = tensors(training.state_dict()), tensors(training.copy_state())
    assert len(own) == len(copied) > 100
    assert {t.data_ptr() for t in own if t.numel()}.isdisjoint(t.data_ptr() for t in copied if t.numel())
    assert [(t.stride(), t.dtype) for t in own] == [(t.stride(), t.dtype) for t in copied]


def test_the_next_save_waits_for_the_last_and_none_is_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make()
    slow, trainer = Slow(monkeypatch), trainer_of(training, tmp_path)
    train_step(training, make_batches(8)[0], loader_of(8, 8))
    trainer.save()
    trainer.save()  # the same state: nothing to do, nothing to wait for
    train_step(training, make_batches(8)[0], loader_of(8, 8))
    threading.Timer(0.3, slow.may_write.set).start()
    trainer.save()
    assert slow.written == 1
    trainer.checkpointer.wait()
    assert slow.written == 2
    assert load_state(newest(tmp_path))["progress"]["updates"] == 2
    assert load_state(RunFolder(tmp_path).state_files()[1])["progress"]["updates"] == 1
    assert trainer.checkpointer.seconds > 0.2


def test_an_interruption_waits_until_the_state_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make()
    slow = Slow(monkeypatch)
    steps(training, 8)
    threading.Timer(0.3, slow.may_write.set).start()
    with pytest.raises(Interrupted):
        stopped(trainer_of(training, tmp_path, lambda: 15))
    assert load_state(newest(tmp_path))["progress"]["updates"] == 1


def test_an_error_is_seen_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make()
    slow = Slow(monkeypatch, RunError("disk full"))
    trainer = trainer_of(training, tmp_path)
    steps(training, 8)
    trainer.save()
    trainer.save_if_due()  # the writer has not met it yet
    slow.may_write.set()
    time.sleep(0.3)
    with pytest.raises(RunError, match="disk full"):
        trainer.save_if_due()


def test_a_task_raises_once_and_where_it_is_asked_for() -> None:
    background = Background("test")
    for ask in (background.check, background.wait, lambda: background.start(lambda: None)):
        background.start(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        time.sleep(0.1)
        with pytest.raises(ZeroDivisionError):
            ask()
        ask()
    background.start(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    background.close()
    with pytest.raises(RuntimeError):
        background.start(lambda: None)
