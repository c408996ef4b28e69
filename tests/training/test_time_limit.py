"""`train.hours`: how many epochs they hold is decided once, the schedule ends with them, and a run that is continued knows it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.audit_images import clean_root
from helpers.tiny_training import NUM_STEPS, make
from helpers.train_commands import assert_equal, newest_state, rows_without_times, run, write_recipe

from hw1.config.recipe import Recipe
from hw1.runs.checkpoint import load_state
from hw1.runs.folder import RunFolder
from hw1.training import time_limit
from hw1.training.lr_schedule import learning_rate
from hw1.training.time_limit import TimeLimit, shortened
from hw1.training.train_state import TrainState
from hw1.training.trainer import Trainer

COSINE = {"name": "cosine", "warmup_epochs": 2.0, "min_lr": 1e-5}


class Clock:
    """The clock of a limit, which moves only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time_limit, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def state_of(hours: float | None, epochs: int = 50, **sections: object) -> TrainState:
    return make(train={"epochs": epochs, "hours": hours}, **sections)


def train(limit: TimeLimit, state: TrainState, clock: Clock, *seconds: float, between: float = 0.0) -> None:
    """Epochs that take so long, each with `between` seconds besides."""
    for each in seconds:
        clock.now += each + between
        state.progress.seconds += each
        limit.end_epoch(each)
        state.progress.epoch += 1


@pytest.mark.parametrize(
    ("hours", "start_up", "seconds", "epochs"),
    [
        (1.0, 0, 360, 9),  # 3600 - 360 - 3 % hold eight more
        (1.0, 600, 360, 7),  # what came before the first epoch counts
        (1.0, 0, 3700, 1),
        (1.0, 0, 1, 50),  # no more than the recipe's
        (8.5, 60, 1800, 16),
    ],
)
def test_the_epochs_that_the_hours_hold(tmp_path, clock, capsys, hours, start_up, seconds, epochs):
    state = state_of(hours)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    clock.now += start_up
    train(limit, state, clock, seconds)
    assert state.recipe.train.epochs == epochs
    assert json.loads((tmp_path / "time_plan.json").read_text()) == {"hours": hours, "epochs": epochs, "after_epoch": 1, "last_epoch": None}
    assert f"train.hours: {hours:g} h hold {'all ' if epochs == 50 else ''}{epochs} of 50 epochs of " in capsys.readouterr().err
    train(limit, state, clock, *[seconds] * min(epochs - 1, 20))
    assert not limit.ends_here or epochs == 1
    assert limit.is_over() == (seconds > 3600)


def test_the_decision_is_made_once(tmp_path, clock, capsys):
    state = state_of(1.0)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    train(limit, state, clock, 360, 100, 100, 100)
    assert state.recipe.train.epochs == 9
    assert capsys.readouterr().err.count("train.hours") == 1


def test_compiling_is_left_out_of_what_an_epoch_takes(tmp_path, clock):
    state = state_of(1.0)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    limit.leave_out(260)
    train(limit, state, clock, 360)
    assert state.recipe.train.epochs == 1 + (3600 - 360 - 108) // 100


def test_epochs_that_grow_slower_end_the_run_in_time_and_that_is_written(tmp_path, clock, capsys):
    state = state_of(1.0)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    train(limit, state, clock, 360, 700, 700, 700)
    assert not limit.ends_here
    train(limit, state, clock, 700)
    assert limit.ends_here
    assert clock.now - 1000 < 3600
    assert "no time for another epoch; the run ends after 5 of 9" in capsys.readouterr().err
    plan = RunFolder(tmp_path).read_time_plan()
    assert plan is not None
    assert (plan["epochs"], plan["last_epoch"]) == (9, 5)


def test_a_slower_end_of_epochs_counts(tmp_path, clock):
    """Saving, drawing, sending: what lies between two epochs."""
    state = state_of(1.0)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    train(limit, state, clock, 360)
    train(limit, state, clock, 360, 360, 360, 360, between=400)
    assert limit.ends_here
    assert clock.now - 1000 < 3600


def test_the_schedule_ends_with_the_epochs_that_are_left(tmp_path, clock):
    state = state_of(1.0, sched=COSINE)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    state.schedule.before_step(NUM_STEPS - 1)
    assert state.schedule.lr == pytest.approx(1e-3 / 2), "half of the warm-up of two epochs"
    train(limit, state, clock, 360)
    last = 9 * NUM_STEPS - 1
    state.schedule.before_step(last)
    assert state.schedule.lr == pytest.approx(1e-5)
    state.schedule.before_step(last - 2 * NUM_STEPS)
    config = state.recipe.sched
    assert state.schedule.lr == learning_rate(last - 24, config, base_lr=1e-3, num_steps=9 * NUM_STEPS, steps_per_epoch=NUM_STEPS)
    assert config.warmup_epochs == pytest.approx(2 * 9 / 50)


def test_a_plateaus_history_stays(tmp_path, clock):
    state = state_of(1.0, sched={"patience": 0})
    for loss in (1.0, 2.0):
        state.schedule.after_epoch(loss)
    before = state.schedule.state_dict(), state.schedule.lr
    train(TimeLimit(RunFolder(tmp_path), state, clock.now), state, clock, 360)
    assert (state.schedule.state_dict(), state.schedule.lr) == before
    assert before[1] == pytest.approx(1e-4)


def test_all_times_of_a_recipe_move_in_proportion():
    recipe = Recipe.model_validate(
        {
            "sched": {"name": "multistep", "milestones": [20.0, 40.0], "decay_epochs": 10.0, "warmup_epochs": 5.0},
            "freeze": {"until_epoch": 10},
            "mixup": {"off_epoch": 45},
            "train": {"epochs": 50},
        }
    )
    short = shortened(recipe, 10)
    assert (short.sched.milestones, short.sched.decay_epochs, short.sched.warmup_epochs) == ((4.0, 8.0), 2.0, 1.0)
    assert (short.freeze.until_epoch, short.mixup.off_epoch, short.train.epochs) == (2, 9, 10)
    assert shortened(recipe, 1).freeze.until_epoch == 1
    assert shortened(Recipe(), 10).freeze.until_epoch is None


def test_without_hours_nothing_is_decided(tmp_path, clock):
    state = state_of(None)
    limit = TimeLimit(RunFolder(tmp_path), state, clock.now)
    limit.take_up()
    train(limit, state, clock, 1e9)
    assert (state.recipe.train.epochs, limit.ends_here, limit.is_over()) == (50, False, False)
    assert list(tmp_path.iterdir()) == []


def continued(folder: Path, clock: Clock, epoch: int, hours: float = 1.0) -> tuple[TimeLimit, TrainState]:
    """The limit of a run that is continued after so many epochs of 360 s, days later."""
    clock.now += 1e6
    state = state_of(hours)
    state.progress.epoch, state.progress.seconds = epoch, epoch * 360.0
    limit = TimeLimit(RunFolder(folder), state, clock.now)
    limit.take_up()
    return limit, state


def test_a_run_that_is_continued_reads_the_decision(tmp_path, clock, capsys):
    state = state_of(1.0)
    train(TimeLimit(RunFolder(tmp_path), state, clock.now), state, clock, 360)
    written = (tmp_path / "time_plan.json").read_bytes()
    capsys.readouterr()
    limit, state = continued(tmp_path, clock, 4)
    assert state.recipe.train.epochs == 9
    train(limit, state, clock, 360)
    assert (tmp_path / "time_plan.json").read_bytes() == written
    assert capsys.readouterr().err == ""
    assert not limit.is_over(), "only the time of training counts, that of all its parts"
    clock.now += 3600 - 5 * 360
    assert limit.is_over()


def test_a_decision_of_which_no_state_tells_is_followed_at_its_epochs_end(tmp_path, clock):
    """The process was killed after it had written it: the rest of the first epoch keeps the rates that it had."""
    state = state_of(1.0)
    train(TimeLimit(RunFolder(tmp_path), state, clock.now), state, clock, 360)
    limit, state = continued(tmp_path, clock, 0)
    assert state.recipe.train.epochs == 50
    train(limit, state, clock, 1000)
    assert state.recipe.train.epochs == 9


def test_other_hours_are_another_decision(tmp_path, clock):
    state = state_of(1.0)
    train(TimeLimit(RunFolder(tmp_path), state, clock.now), state, clock, 360)
    limit, state = continued(tmp_path, clock, 4, hours=2.0)
    assert state.recipe.train.epochs == 50
    train(limit, state, clock, 360)
    assert state.recipe.train.epochs == 5 + (7200 - 5 * 360 - 216) // 360


# --- whole runs ---


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """Each epoch takes a minute, whatever the machine, on the clock and in its metrics."""
    real = Trainer._epoch_metrics

    def measure(self: Any, *arguments: Any) -> Any:
        clock.now += 60
        row = real(self, *arguments)
        return {**row, "seconds": 60.0}

    monkeypatch.setattr(Trainer, "_epoch_metrics", measure)
    return clock


@pytest.mark.slow
def test_a_run_ends_in_time_with_its_schedule_and_the_same_bits_when_interrupted(tmp_path, minutes, monkeypatch):
    recipe = write_recipe(tmp_path, clean_root(tmp_path / "data"))
    options = [recipe, "train.deterministic=false", "train.epochs=50", "train.hours=0.1", "sched.name=cosine", "sched.min_lr=1e-6"]
    whole = run("train.py", *options, f"run.dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "whole/tiny/seed5"
    rows = rows_without_times(folder)
    assert len(rows) == 1 + int((360 - 60 - 0.03 * 360) // 60) == 5
    assert rows[-1]["lr"] == pytest.approx(1e-6)
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 5
    assert "epoch 5/5  train" in whole.stderr
    again = run("train.py", *options, f"run.dir={tmp_path}/whole")
    assert "finished already, 5 epochs; train.hours=null train.epochs=N trains longer" in again.stdout

    # killed after the third epoch: what is left is the folder as it was
    real = Trainer.save

    def die(self: Any) -> None:
        real(self)
        if self.state.progress.epoch == 3 and self.state.progress.step == 0:
            self.checkpointer.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", die)
    extra = [f"run.dir={tmp_path}/parts", "checkpoint.every_minutes=0.0001"]
    assert run("train.py", *options, *extra).returncode == 130
    monkeypatch.setattr(Trainer, "save", real)
    second = run("train.py", *options, *extra)
    assert second.returncode == 0, second.stderr
    assert rows_without_times(tmp_path / "parts/tiny/seed5") == rows
    states = [load_state(newest_state(tmp_path / name / "tiny/seed5")) for name in ("whole", "parts")]
    times = ("epoch_seconds", "wait_seconds", "seconds", "wandb_id")
    assert_equal(*states, but=times)


def test_hours_that_are_over_within_an_epoch_save_and_say_how_to_go_on(tmp_path, clock, monkeypatch):
    recipe = write_recipe(tmp_path, clean_root(tmp_path / "data"))
    options = [recipe, "train.deterministic=false", "train.epochs=1", "data.batch_size=5"]
    monkeypatch.setattr(TimeLimit, "is_over", lambda self: self._hours is not None)
    result = run("train.py", *options, "train.hours=0.5")
    assert result.returncode == 3, result.stderr
    assert result.stderr.splitlines()[-1] == (
        f"{tmp_path}/runs/tiny/seed5: train.hours: 0.5 h are over, saved at epoch 1, step 2; a larger number, or null, continues it"
    )
    rest = run("train.py", *options, "train.hours=null")
    assert rest.returncode == 0, rest.stderr
    assert "continues in epoch 1 at step 2" in rest.stderr
