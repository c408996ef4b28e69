"""What is saved when an error ends a run: the state before the step that met it, wherever in the step that was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import loader_of, make, make_batches, newest, trainer_of
from helpers.train_commands import TIMES, assert_equal

from hw1.errors import Interrupted, RunError
from hw1.runs.checkpoint import load_state
from hw1.runs.folder import RunFolder
from hw1.runtime.device import is_out_of_memory
from hw1.training import train_step as step
from hw1.training import trainer as engine
from hw1.training.train_state import TrainState
from hw1.training.trainer import Trainer

SIZES = (6, 6, 6, 6)
SECTIONS: dict[str, Any] = {
    "train": {"grad_accum": 2, "ema_decay": 0.9}, "mixup": {"prob": 1.0},
    "model": {"name": "resnet18_half_cbam", "pretrained": False, "drop_rate": 0.5},
}  # fmt: skip
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


class Loader:
    """Gives batches of `SIZES`, from any step on, and an error in place of batch `bad`."""

    num_batches = len(SIZES)
    stop: Any = None

    def __init__(self, bad: int | None = None, error: Exception | None = None) -> None:
        self.bad, self.error = bad, error

    def batch_size_of(self, step: int) -> int:
        return SIZES[step]

    local_batch_size_of = batch_size_of

    def epoch(self, epoch: int, start: int = 0) -> Any:
        for number, batch in list(enumerate(make_batches(*SIZES)))[start:]:
            if number == self.bad:
                assert self.error
                raise self.error
            yield batch


def started(folder: Path, loader: Loader, signum: int | None = None) -> Trainer:
    torch.manual_seed(1)
    return trainer_of(make(**SECTIONS), folder, lambda: signum, loader)


def clean(updates: int) -> dict[str, Any]:
    """The state after so many optimizer steps that nothing disturbed."""
    torch.manual_seed(1)
    training = make(**SECTIONS)
    for batch in make_batches(*SIZES)[: 2 * updates]:
        step.train_step(training, batch, loader_of(*SIZES))
    return training.copy_state()


def expect_saved(folder: Path, updates: int) -> None:
    saved = load_state(newest(folder))
    del saved["format"]
    assert_equal(saved, clean(updates), but=(*TIMES, "told_loss", "told_images"))  # of what trackers were given


@pytest.mark.parametrize("error", [RunError("7.jpg: truncated"), NO_MEMORY], ids=["file", "memory"])
@pytest.mark.parametrize("bad", range(4))
def test_where_a_batch_is_missing_the_steps_before_are_saved(tmp_path: Path, bad: int, error: Exception) -> None:
    trainer = started(tmp_path, Loader(bad, error))
    with pytest.raises(type(error)):
        trainer.train_epoch()
    expect_saved(tmp_path, bad // 2)


@pytest.mark.parametrize("bad", range(4))
def test_memory_that_lacks_within_a_step_undoes_its_batches(tmp_path: Path, bad: int) -> None:
    trainer = started(tmp_path, Loader())
    calls = 0

    def fails(*_: object) -> None:  # after BatchNorm has seen the batch
        nonlocal calls
        calls += 1
        if calls == bad + 1:
            raise NO_MEMORY

    trainer.state.model.register_forward_hook(fails)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train_epoch()
    expect_saved(tmp_path, bad // 2)


def test_within_the_optimizers_work_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the weights may be new, the others old."""
    trainer = started(tmp_path, Loader())

    def fails(*_: object) -> None:
        raise NO_MEMORY

    monkeypatch.setattr(step, "average_unless", fails)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train_epoch()
    assert not RunFolder(tmp_path).state_files()


def test_a_fault_of_the_program_saves_nothing(tmp_path: Path) -> None:
    trainer = started(tmp_path, Loader(2, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        trainer.train_epoch()
    assert not RunFolder(tmp_path).state_files()


@pytest.mark.parametrize("bad", range(4))
def test_asked_to_stop_a_run_stops_although_its_loader_dies(tmp_path: Path, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = started(tmp_path, Loader(bad, RunError("died")))
    asked = False
    trainer.stop_and_save._stop = lambda: 15 if asked else None

    def die(training: TrainState, batch: Any, loader: Any) -> bool:
        nonlocal asked
        asked = training.progress.step == bad - 1
        return step.train_step(training, batch, loader)

    monkeypatch.setattr(engine, "train_step", die)
    asked = bad == 0
    with pytest.raises(Interrupted) as caught:
        trainer.train_epoch()
    assert caught.value.exit_code == 143
    expect_saved(tmp_path, bad // 2)


@pytest.mark.parametrize("error", [RunError("7.jpg: truncated"), NO_MEMORY], ids=["file", "memory"])
def test_an_error_in_validation_costs_no_epoch(tmp_path: Path, error: Exception) -> None:
    trainer = started(tmp_path, Loader())
    trainer.train_epoch()
    trainer.val_loader = Loader(1, error)  # type: ignore[assignment]
    message = r"out of memory on the device in validation; data\.eval_batch_size=32 continues it" if error is NO_MEMORY else "truncated"
    with pytest.raises(RunError, match=message):
        trainer.validate_epoch()
    expect_saved(tmp_path, 2)


def test_memory_errors_are_known() -> None:
    for error in (NO_MEMORY, MemoryError(), RuntimeError("could not create a primitive")):
        assert is_out_of_memory(error)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RunError("no room"), OSError(12, "Cannot allocate memory")):
        assert not is_out_of_memory(error)
