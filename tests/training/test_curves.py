"""The learning rates that the curves show are those that the optimizer has."""

import numpy as np
import pytest
import torch

from hw1.config.recipe import Recipe
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.training.curves import MAX_POINTS, step_rates
from hw1.training.lr_schedule import build_schedule

NUM_BATCHES, EPOCHS = 7, 4


def recipe_with(**sched: object) -> Recipe:
    return Recipe.model_validate({"optim": {"lr": 0.01}, "sched": sched, "train": {"epochs": EPOCHS, "grad_accum": 2}})


def rates_of(recipe: Recipe) -> list[float]:
    """What the optimizer has in each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.optim.lr)
    schedule = build_schedule(optimizer, recipe.sched, epochs=EPOCHS, steps_per_epoch=4)
    rates = []
    for step in range(EPOCHS * 4):
        schedule.before_step(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def rows_of(rates: list[float]) -> list[EpochMetrics]:
    return [{"epoch": number, "lr": rates[4 * number - 1]} for number in range(1, EPOCHS + 1)]


@pytest.mark.parametrize("sched", [{"name": "cosine", "warmup_epochs": 0.5}, {"name": "step", "decay_epochs": 1.5}, {"name": "poly"}])
def test_they_are_the_optimizers(sched: dict[str, object]) -> None:
    recipe = recipe_with(**sched)
    rates = rates_of(recipe)
    found = step_rates(recipe, rows_of(rates), NUM_BATCHES)
    assert found is not None
    np.testing.assert_allclose(found[0], np.arange(1, 17) / 4)
    np.testing.assert_allclose(found[1], rates, rtol=1e-12)


def test_where_the_recipe_does_not_tell_them_there_are_none() -> None:
    recipe = recipe_with(name="cosine")
    rows = rows_of(rates_of(recipe))
    assert step_rates(recipe_with(name="plateau"), rows, NUM_BATCHES) is None
    rows[1]["lr"] *= 1.01  # the recipe was changed on the way
    assert step_rates(recipe, rows, NUM_BATCHES) is None


def test_a_long_run_has_no_more_points_than_a_figure_shows() -> None:
    recipe = Recipe.model_validate({"sched": {"name": "multistep", "milestones": [3]}, "train": {"epochs": 4}})
    rows: list[EpochMetrics] = [
        {"epoch": number, "lr": recipe.optim.lr * (1 if number < 4 else recipe.sched.factor)} for number in (1, 2, 3, 4)
    ]
    found = step_rates(recipe, rows, 100_000)
    assert found is not None
    assert len(found[0]) == MAX_POINTS
    assert (found[0][-1], found[1][-1]) == (4, rows[-1]["lr"])
