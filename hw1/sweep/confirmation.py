"""The winners of a sweep over new seeds against the recipe's own values: the report's verdict, and how much of the score was luck.

The best of N noisy scores is better than its configuration is: that trial was chosen for its noise too. Runs with other seeds were not, so
their mean has no such bias. The validation images are the same in both, so a choice that suits these images alone stays: the test split
shows that.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from hw1.ablate.plan import PlannedRun, experiment
from hw1.config.recipe import Recipe
from hw1.errors import RunError
from hw1.evaluation.selection import expected_maximum, pooled_std
from hw1.report.collect import collect
from hw1.report.verdict import compare, verdicts
from hw1.sweep.plan import SweepPlan
from hw1.sweep.space import Values
from hw1.sweep.study import Trial

BASELINE = "recipe"
"""Name of the runs of the recipe's own values."""


@dataclass(frozen=True)
class Contender:
    """A configuration that is trained over the new seeds.

    Attributes:
        name: Of its runs.
        values: Of the keys that vary; none are the recipe's own.
        sweep_score: The score for which it was chosen; None for the baseline.
    """

    name: str
    values: Values
    sweep_score: float | None


@dataclass(frozen=True)
class Confirmed:
    """What the new seeds say of a winner.

    Attributes:
        name: The trial.
        sweep_score: The score for which it was chosen.
        new_scores: The scores of the new seeds.
        luck: How much better the first is than the mean of the others; negative if it is worse.
        expected_luck: What the best of as many equal trials is better than their mean, at the spread over seeds measured here; None where
            there is no spread to measure.
        num_trials: Number of trials that it was the best of.
        verdict: The report's sentence on it against the baseline: top-1 of the last epoch.
        outcome: The sentence's result.
    """

    name: str
    sweep_score: float
    new_scores: list[float]
    luck: float
    expected_luck: float | None
    num_trials: int
    verdict: str
    outcome: str


def choose_contenders(plan: SweepPlan, ranked_trials: Sequence[Trial], top: int) -> list[Contender]:
    """Return the baseline and the best `top` finished trials.

    The baseline is the recipe's own values, or, where the best trial has just those, the best trial with others; if there is none, the
    result is empty: nothing is left to compare.
    """
    own = experiment(plan.recipe)
    finished = [trial for trial in ranked_trials if trial.state == "finished"]
    others = [trial for trial in finished if experiment(_recipe_of(plan, trial)) != own]
    if not others:
        return []
    if finished[0] is others[0]:
        return [Contender(BASELINE, {}, None), *(_contender(trial) for trial in others[:top])]
    return [_contender(others[0]), _contender(finished[0])]


def plan_seeds(plan: SweepPlan, contenders: Sequence[Contender], num_seeds: int) -> list[PlannedRun]:
    """Plan every contender over seeds that no trial had: all with one seed before the next.

    Raises:
        UserError: A run folder holds something else.
    """
    seeds = range(plan.recipe.seed + 1, plan.recipe.seed + 1 + num_seeds)
    runs = [plan.plan_run(plan.seeds, each.name, each.values, seed) for seed in seeds for each in contenders]
    for run in runs:
        run.refresh()
    return runs


def confirm(plan: SweepPlan, contenders: Sequence[Contender], num_seeds: int, num_trials: int) -> list[Confirmed]:
    """Compare each winner with the baseline, the first contender, over the new seeds, whose runs are all finished.

    Raises:
        RunError: The files of a run do not agree with each other.
    """
    seeds = range(plan.recipe.seed + 1, plan.recipe.seed + 1 + num_seeds)
    collection = collect(plan.seeds)
    runs = {each.name: [run for run in collection.runs_of(each.name) if run.seed in seeds] for each in contenders}
    if any(len(each) < num_seeds for each in runs.values()):
        raise RunError("\n".join(f"{plan.seeds}/{run.path}: {run.reason}" for run in collection.left_out))
    key = f"val_{plan.best_by}"
    sign = -1 if plan.best_by == "loss" else 1
    scores = {
        name: [sign * max(sign * float(cast(Any, epoch)[key]) for epoch in run.epochs) for run in each] for name, each in runs.items()
    }
    baseline, *winners = contenders
    correct = {name: np.stack([run.correct for run in each]) for name, each in runs.items()}
    found = verdicts([compare(correct[baseline.name], correct[winner.name]) for winner in winners])
    std = pooled_std(list(scores.values()))
    expected = None if std is None else std * expected_maximum(num_trials)
    return [
        Confirmed(
            winner.name,
            winner.sweep_score,
            scores[winner.name],
            sign * (winner.sweep_score - float(np.mean(scores[winner.name]))),
            expected,
            num_trials,
            verdict.sentence,
            verdict.outcome,
        )
        for winner, verdict in zip(winners, found, strict=True)
        if winner.sweep_score is not None
    ]


def describe_confirmed(item: Confirmed, best_by: str, baseline: str) -> list[str]:
    """Return what the new seeds say of a winner, in two lines."""
    mean, num = float(np.mean(item.new_scores)), len(item.new_scores)
    unit, factor = ("nats", 1) if best_by == "loss" else ("points", 100)
    lines = [f"{item.name}: val {best_by} {item.sweep_score:.4f} in the sweep, {mean:.4f} on average over {num} new seeds"]
    lines[0] += f": the sweep's number is {abs(factor * item.luck):.2g} {unit} too {'good' if item.luck >= 0 else 'bad'}"
    if item.expected_luck is not None:
        chance = f"{factor * item.expected_luck:.2g} {unit}"
        lines[0] += f"; the best of {item.num_trials} equal trials would be {chance} better than their mean by chance"
    return [*lines, f"{item.name} against {'the recipe' if baseline == BASELINE else baseline}: {item.verdict}"]


def as_json(confirmed: Sequence[Confirmed]) -> list[dict[str, Any]]:
    """Return the winners as JSON has them."""
    return [asdict(item) for item in confirmed]


def _contender(trial: Trial) -> Contender:
    return Contender(trial.name, trial.values, trial.score)


def _recipe_of(plan: SweepPlan, trial: Trial) -> Recipe:
    return plan.plan_run(plan.trials, trial.name, trial.values).recipe
