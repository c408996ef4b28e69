"""The study of a sweep: every trial with its values and scores, in a journal of Optuna's beside the runs.

A line is appended and synced for each thing that happens, so that a process that is killed at any moment loses at most the line that it
wrote; `Study` cuts off half a line before it appends another. The lock of the sweep keeps a second process out.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from hw1.errors import UserError
from hw1.sweep.space import Choice, Range, Space, Values
from hw1.utils.text import first_line

FACTS = "begun with"
NUM_RANDOM = 10
"""Trials that are drawn at random before Optuna's model of the scores proposes."""
NUM_UNPRUNED = 5
"""Finished trials that there must be before one is stopped early."""
MAX_REPEATS = 20
"""Proposals of values that were tried before, after which they are drawn at random."""
Result = Literal["finished", "pruned", "failed"]
State = Literal["running"] | Result
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: From 1.
        values: By key.
        state: What became of it.
        scores: `train.best_by` on the validation images by epoch, from 1.
        score: The best of them; None before the first epoch.
        best_epoch: The epoch of that score.
    """

    number: int
    values: Values
    state: State
    scores: dict[int, float] = field(default_factory=dict)
    score: float | None = None
    best_epoch: int | None = None

    @property
    def name(self) -> str:
        """Name of the trial's run."""
        return f"trial{self.number:03}"


class _NoLock:
    """A lock that keeps nobody out: the sweep is locked as a whole, and a lock file of the journal's own would outlive a killed process."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Study:
    """The trials of a sweep, and which values to try next.

    Args:
        path: The journal; made where it is missing.
        space: The space.
        minimize: Whether a lower score is better.
        seed: Of the proposals. The next one depends on it and on the trials so far alone, also after a restart.
        prune_after: Epochs of a trial before it may be stopped early.

    Raises:
        UserError: The journal is damaged, or cannot be read and written.
    """

    def __init__(self, path: Path, space: Space, *, minimize: bool, seed: int, prune_after: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._minimize, self._seed = space, minimize, seed
        with _damage_told(path):
            _drop_half_line(path)
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock()))  # type: ignore[arg-type]
            pruner = optuna.pruners.MedianPruner(NUM_UNPRUNED, n_warmup_steps=prune_after)
            self._study = optuna.create_study(
                storage=storage,
                study_name="sweep",
                load_if_exists=True,
                direction="minimize" if minimize else "maximize",
                pruner=pruner,
                sampler=RandomSampler(seed=seed),
            )

    def facts(self) -> dict[str, Any]:
        """Return what `set_facts` kept; empty for a study that was not begun."""
        return dict(self._study.user_attrs.get(FACTS, {}))

    def set_facts(self, facts: dict[str, Any]) -> None:
        """Keep what the study was begun with, in one line of the journal."""
        self._study.set_user_attr(FACTS, facts)

    def trials(self) -> list[Trial]:
        """Return all trials, by number."""
        return [self._record(number, trial) for number, trial in enumerate(self._distinct(), start=1)]

    def propose(self) -> Trial:
        """Begin a new trial, with values that no other has; there must be some left."""
        while True:
            before = len(self._distinct())
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            self._complete(self._study.ask())
            trials = self._distinct()
            if len(trials) > before:
                return self._record(len(trials), trials[-1])

    def complete_proposals(self) -> None:
        """Give the rest of its values to a trial whose proposal was cut off by a kill; call it before the first `trials`."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self._study.sampler = self._sampler(trial.number)
                self._complete(self._trial(trial))

    def report(self, number: int, epoch: int, score: float) -> None:
        """Take up the score of an epoch."""
        trial = self._distinct()[number - 1]
        if epoch not in trial.intermediate_values:
            self._trial(trial).report(score, epoch)

    def should_prune(self, number: int) -> bool:
        """Return whether the best score of a trial so far is worse than the median that the finished ones had after as many epochs."""
        trial = self._distinct()[number - 1]
        return bool(trial.intermediate_values) and self._trial(trial).should_prune()

    def end(self, number: int, state: Result) -> Trial:
        """Record what became of a trial; a finished one without a finite score has failed."""
        trial = self._distinct()[number - 1]
        record = self._record(number, trial)
        if state == "finished" and (record.score is None or not math.isfinite(record.score)):
            state = "failed"
        [told] = [key for key, name in STATES.items() if name == state]
        self._study.tell(trial.number, record.score if state == "finished" else None, told)
        return self.trials()[number - 1]

    def _sampler(self, number: int) -> BaseSampler:
        """Return a sampler whose draws depend on the trials before this one, and on nothing that a killed process would lose."""
        trials = self._study.get_trials(deepcopy=False)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        num_repeats = sum(trial.state == TrialState.FAIL and self._is_repeat(trial) for trial in trials)
        if num_repeats >= MAX_REPEATS:
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=NUM_RANDOM)

    def _complete(self, trial: optuna.Trial) -> None:
        """Draw the values that a trial lacks; drop it if another has the same."""
        for key, values in self._space.items():
            _suggest(trial, key, values)
        [frozen] = [each for each in self._study.get_trials(deepcopy=False) if each.number == trial.number]
        if self._is_repeat(frozen):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _is_repeat(self, trial: FrozenTrial) -> bool:
        others = self._study.get_trials(deepcopy=False)[: trial.number]
        return any(other.params == trial.params for other in others)

    def _distinct(self) -> list[FrozenTrial]:
        """Return the trials that have all their values, without those that repeat another."""
        trials: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if trial.params.keys() == self._space.keys():
                trials.setdefault(json.dumps(trial.params, sort_keys=True), trial)
        return list(trials.values())

    def _trial(self, trial: FrozenTrial) -> optuna.Trial:
        return optuna.Trial(self._study, trial._trial_id)

    def _record(self, number: int, trial: FrozenTrial) -> Trial:
        values = {
            key: json.loads(trial.params[key]) if isinstance(values, Choice) else trial.params[key] for key, values in self._space.items()
        }
        scores = dict(sorted(trial.intermediate_values.items()))
        finite = {epoch: score for epoch, score in scores.items() if math.isfinite(score)}
        sign = 1 if self._minimize else -1
        best = min(finite, key=lambda epoch: (sign * finite[epoch], epoch), default=None)
        return Trial(number, values, STATES[trial.state], scores, None if best is None else finite[best], best)


def _suggest(trial: optuna.Trial, key: str, values: Choice | Range) -> None:
    """Draw a value, unless the trial has one; choices are kept as JSON, as Optuna has none that are lists."""
    if isinstance(values, Choice):
        trial.suggest_categorical(key, [json.dumps(option) for option in values.options])
    elif values.is_int:
        trial.suggest_int(key, int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    else:
        trial.suggest_float(key, values.low, values.high, log=values.log, step=values.step)


def _drop_half_line(path: Path) -> None:
    """Cut off what a killed process wrote of a line: Optuna passes over it, and would then append the next one to it."""
    try:
        with path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read and written: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, optuna.exceptions.OptunaError) as error:
        raise UserError(f"{path}: damaged ({first_line(error)}); restore it, or run.name=NAME begins another sweep") from None
