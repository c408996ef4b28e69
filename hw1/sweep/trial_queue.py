"""The trials of a sweep as runs: unfinished ones first, then new ones, each stopped early where it is unpromising."""

import os
from collections.abc import Callable

from hw1.ablate.plan import PlannedRun
from hw1.errors import RunError, UserError
from hw1.sweep.plan import SweepPlan
from hw1.sweep.space import describe_values
from hw1.sweep.study import Result, Study, Trial

MAX_FAILURES = 3
"""Trials that may fail in a row: after so many the fault is not in their values."""


class TrialQueue:
    """Runs of a study's trials (a `hw1.ablate.run_queue.RunQueue`).

    Args:
        plan: The sweep.
        study: Its study; every change is recorded in it at once.
        num_trials: Trials in all, those before a restart included.
        tell: Is given a line for each trial that has ended.
    """

    def __init__(self, plan: SweepPlan, study: Study, num_trials: int, tell: Callable[[str], None]) -> None:
        self._plan, self._study, self._num_trials, self._tell = plan, study, num_trials, tell
        self._under_way: dict[str, int] = {}
        """Number of each trial that was given out, by run folder."""
        self._seen: dict[str, int] = {}
        """When the metrics that were last read of a run were written, ns."""
        self._stopped: set[str] = set()
        self._failures: list[str] = []

    def take(self) -> PlannedRun | None:
        """Return the run of the next trial that is to be trained.

        Raises:
            RunError: Too many trials in a row have failed.
            UserError: The folder of a trial holds something else.
        """
        while (trial := self._next_trial()) is not None:
            try:
                run = self._plan.plan_run(self._plan.trials, trial.name, trial.values)
            except UserError as error:  # each value is possible, but not together
                self._finish(trial, "failed", error.problems[0])
                continue
            run.refresh()
            path = str(run.folder.path)
            self._under_way[path] = trial.number
            self._report(run)
            if run.status == "finished":  # its result was not recorded before a kill
                self.end(run, None)
            elif self._is_to_stop(run):
                self._stopped.add(path)
                self.end(run, None)
            else:
                return run
        return None

    def is_unpromising(self, run: PlannedRun) -> bool:
        """Return whether the scores so far are worse than the median of the other trials."""
        path = str(run.folder.path)
        if path in self._stopped:
            return True
        if self._report(run) and self._is_to_stop(run):
            self._stopped.add(path)
            return True
        return False

    def end(self, run: PlannedRun, problem: str | None) -> None:
        """Record how a trial ended."""
        path = str(run.folder.path)
        run.refresh()
        self._report(run)
        number = self._under_way.pop(path)
        trial = self._study.trials()[number - 1]
        if run.status == "finished":
            self._finish(trial, "finished")
        elif path in self._stopped:
            self._finish(trial, "pruned")
        else:
            self._finish(trial, "failed", problem or "")

    def _next_trial(self) -> Trial | None:
        trials = self._study.trials()
        for trial in trials:
            if trial.state == "running" and trial.number not in self._under_way.values():
                return trial
        return self._study.propose() if len(trials) < self._num_trials else None

    def _report(self, run: PlannedRun) -> bool:
        """Tell the study the epochs that are new in the run folder; return whether there are any."""
        path = str(run.folder.path)
        try:
            written = os.stat(run.folder.metrics_jsonl).st_mtime_ns
            if self._seen.get(path) == written:
                return False
            rows = run.folder.read_metrics()
        except (OSError, UserError):  # not there yet
            return False
        self._seen[path] = written
        for row in rows:
            self._study.report(self._under_way[path], row["epoch"], float(row[f"val_{self._plan.best_by}"]))  # type: ignore[literal-required]
        return bool(rows)

    def _is_to_stop(self, run: PlannedRun) -> bool:
        number = self._under_way[str(run.folder.path)]
        num_epochs = max(self._study.trials()[number - 1].scores, default=0)
        return num_epochs < run.recipe.train.epochs and self._study.should_prune(number)

    def _finish(self, trial: Trial, state: Result, problem: str = "") -> None:
        trial = self._study.end(trial.number, state)
        self._tell(f"{trial.name} of {self._num_trials}: {describe_result(trial, problem)}  {describe_values(trial.values)}")
        self._failures = [*self._failures, f"{trial.name}: {problem}"] if trial.state == "failed" else []
        if len(self._failures) == MAX_FAILURES:
            head = f"{MAX_FAILURES} trials in a row have failed; the same command goes on with others"
            raise RunError("\n".join([head, *self._failures]))


def describe_result(trial: Trial, problem: str = "") -> str:
    """Return what became of a trial, in some words."""
    if trial.state == "failed":
        return f"failed{': ' if problem else ''}{problem}"
    score = "no score" if trial.score is None else f"{trial.score:.4f} in epoch {trial.best_epoch}"
    return score if trial.state == "finished" else f"{score}, {trial.state} after epoch {max(trial.scores, default=0)}"
