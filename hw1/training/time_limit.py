"""Keep a run within `train.hours`: decide once, after the first epoch, how many epochs they hold, and plan schedule and phases for them."""

import time

from hw1.config.recipe import Recipe
from hw1.runs.folder import RunFolder, TimePlan
from hw1.runtime import distributed as dist
from hw1.training.train_state import TrainState
from hw1.utils.console import say
from hw1.utils.text import format_seconds

RESERVE = 0.03
"""Fraction of the hours that the decision leaves free: for epochs that are slower than the first, and for the end of the run."""
LAST_RESERVE = 0.005
"""Fraction that is still left free when an epoch begins."""


class TimeLimit:
    """The time of one run, over all its parts. Without `train.hours` it decides nothing.

    Every process has one and calls the same methods; rank 0's clock decides.

    Args:
        run: The run folder.
        state: The run's state, as it was loaded.
        started: `time.monotonic()` at the start of this part of the run.
    """

    def __init__(self, run: RunFolder, state: TrainState, started: float) -> None:
        self._run, self._state, self._hours = run, state, state.recipe.train.hours
        self._started = started - state.progress.seconds - state.progress.epoch_seconds
        self._plan: TimePlan | None = None
        self._start_up = 0.0
        self._epoch_ended = time.monotonic()

    def take_up(self) -> None:
        """Plan for as many epochs as an earlier part of the run has decided. Call once, before the first step."""
        if self._hours is None:
            return
        plan = dist.run_on_rank0(self._run.read_time_plan)
        if plan is not None and plan["hours"] == self._hours and self._state.progress.epoch >= plan["after_epoch"]:
            self._follow(plan)

    @property
    def ends_here(self) -> bool:
        """Whether there was no time for another epoch."""
        last = self._plan and self._plan["last_epoch"]
        return last is not None and self._state.progress.epoch >= last

    def is_over(self) -> bool:
        """Return whether the time is over; on rank 0 only."""
        return self._hours is not None and dist.is_main() and self._seconds_left() <= 0

    def leave_out(self, seconds: float) -> None:
        """Leave seconds of the epoch under way, in which the step was compiled, out of what an epoch is expected to take."""
        self._start_up += seconds

    def end_epoch(self, seconds: float) -> None:
        """Decide once how many epochs the time holds; later only whether there is time for the next. Call before the epoch is saved.

        Args:
            seconds: Of the epoch that ends, training and validation; the state counts it only afterwards.
        """
        if self._hours is None:
            return
        decide = self._cut_off if self._plan else self._decide
        plan = dist.run_on_rank0(lambda: decide(seconds))
        self._epoch_ended, self._start_up = time.monotonic(), 0.0
        if plan != self._plan:
            self._follow(plan)

    def _decide(self, seconds: float) -> TimePlan:
        """Decide how many epochs the hours hold, and write it to the run folder; a decision that is there stays.

        One may be there although the state is from before it: the process was killed before it saved the epoch.
        """
        assert self._hours is not None
        done, planned = self._state.progress.epoch + 1, self._state.recipe.train.epochs
        former = self._run.read_time_plan()
        if former is not None and (former["hours"], former["after_epoch"]) == (self._hours, done):
            return former
        usual = max(seconds - self._start_up, 1e-3)
        epochs = min(done + max(int((self._seconds_left() - RESERVE * self._hours * 3600) / usual), 0), planned)
        say(
            f"{self._run.path}: train.hours: {self._hours:g} h hold {'all ' if epochs == planned else ''}{epochs} of {planned} epochs of "
            f"{format_seconds(usual)}{'' if epochs == planned else '; the schedule is planned for these'}"
        )
        return self._write(TimePlan(hours=self._hours, epochs=epochs, after_epoch=done, last_epoch=None))

    def _cut_off(self, seconds: float) -> TimePlan:
        """End the run here if there is no time for another epoch like the last one, and write that to the run folder."""
        assert self._hours is not None
        assert self._plan is not None
        done, planned = self._state.progress.epoch + 1, self._state.recipe.train.epochs
        needed = max(time.monotonic() - self._epoch_ended, seconds) - self._start_up
        if done >= planned or self._seconds_left() - LAST_RESERVE * self._hours * 3600 >= needed:
            return self._plan
        say(f"{self._run.path}: train.hours: no time for another epoch; the run ends after {done} of {planned}")
        return self._write({**self._plan, "last_epoch": done})

    def _write(self, plan: TimePlan) -> TimePlan:
        self._run.write_json(self._run.time_plan, dict(plan))
        return plan

    def _follow(self, plan: TimePlan) -> None:
        if plan["epochs"] < self._state.recipe.train.epochs:
            self._state.shorten(shortened(self._state.recipe, plan["epochs"]))
        self._plan = plan

    def _seconds_left(self) -> float:
        return (self._hours or 0.0) * 3600 - (time.monotonic() - self._started)


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe for fewer epochs: warm-up, cuts of the rate, `freeze.until_epoch` and `mixup.off_epoch` move in proportion."""
    share = epochs / recipe.train.epochs
    sched, freeze, mixup = recipe.sched, recipe.freeze, recipe.mixup
    times = {
        "warmup_epochs": sched.warmup_epochs * share,
        "decay_epochs": sched.decay_epochs * share,
        "milestones": tuple(milestone * share for milestone in sched.milestones),
    }
    until, off = (None if epoch is None else max(round(epoch * share), 1) for epoch in (freeze.until_epoch, mixup.off_epoch))
    return recipe.model_copy(
        update={
            "sched": sched.model_copy(update=times),
            "freeze": freeze.model_copy(update={"until_epoch": until}),
            "mixup": mixup.model_copy(update={"off_epoch": off}),
            "train": recipe.train.model_copy(update={"epochs": epochs}),
        }
    )
