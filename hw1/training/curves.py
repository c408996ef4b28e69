"""Draw the curves of a run: what of its recipe the figure needs, and the learning rate of every step."""

import json
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import Recipe
from hw1.errors import UserError
from hw1.plots import Figure, plot_curves
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder
from hw1.training.lr_schedule import learning_rate, updates_per_epoch

MAX_POINTS = 2000  # of the rate's line: more than the figure has pixels


def draw_run_curves(run: RunFolder) -> Figure:
    """Draw the curves of a run folder.

    Raises:
        UserError: No epoch has been finished yet, or a file of the folder is damaged.
    """
    rows, num_batches, stopped_early = run.read_metrics(), None, False
    if not rows:
        raise UserError(f"{run.path}: has not finished an epoch yet")
    recipe = run.read_recipe()
    with suppress(OSError, ValueError, KeyError, TypeError):
        num_batches = -(-int(json.loads(run.env.read_bytes())["num_train"]) // int(recipe.data.batch_size))
    with suppress(OSError, ValueError, KeyError):
        stopped_early = bool(json.loads(run.summary.read_bytes())["stopped_early"])
    return draw_curves(recipe, rows, num_batches, stopped_early=stopped_early)


def draw_curves(recipe: Recipe, rows: Sequence[EpochMetrics], num_batches: int | None, *, stopped_early: bool = False) -> Figure:
    """Draw the curves of the epochs so far.

    Args:
        recipe: The run's recipe.
        rows: The metrics of each epoch, at least one.
        num_batches: Of an epoch; None where it is not known.
        stopped_early: Whether `train.early_stop` ended the run.
    """
    mixes = bool(recipe.mixup.prob and (recipe.mixup.alpha or recipe.mixup.cutmix_alpha))
    rates = None if num_batches is None else step_rates(recipe, rows, num_batches)
    return plot_curves(rows, best_by=recipe.train.best_by, rates=rates, mixes=mixes, stopped_early=stopped_early)


def step_rates(recipe: Recipe, rows: Sequence[EpochMetrics], num_batches: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Compute the learning rate of every optimizer step so far.

    Args:
        recipe: The run's recipe.
        rows: The metrics of each epoch.
        num_batches: Of an epoch.

    Returns:
        Where in the epochs each step ends, and its rate; at most `MAX_POINTS`. None where the rate follows the validation loss, or where
        the recipe does not give the rates that the rows tell: it was changed on the way.
    """
    if recipe.sched.name == "plateau":
        return None
    per_epoch = updates_per_epoch(recipe.train, num_batches)

    def rate(step: int) -> float:
        length = {"num_steps": recipe.train.epochs * per_epoch, "steps_per_epoch": per_epoch}
        return learning_rate(step, recipe.sched, base_lr=recipe.optim.lr, **length)

    if any(abs(rate(number * per_epoch - 1) - row["lr"]) > 1e-6 * row["lr"] for number, row in enumerate(rows, start=1)):
        return None
    num_steps = len(rows) * per_epoch
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, MAX_POINTS)).astype(int))
    return (steps + 1) / per_epoch, np.array([rate(int(step)) for step in steps])
