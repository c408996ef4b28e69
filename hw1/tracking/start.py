"""Which trackers a run has, and what they are given."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hw1.config.load import dump_recipe
from hw1.config.recipe import LogConfig, Recipe
from hw1.errors import UserError
from hw1.runs.folder import RunFolder
from hw1.runs.step_metrics import read_steps
from hw1.tracking.tracker import At, Tracker, Trackers
from hw1.tracking.wandb_tracker import WandbEvaluation, WandbTracker
from hw1.utils.console import say

if TYPE_CHECKING:
    from hw1.tracking.tensorboard_tracker import TensorboardTracker

EVERYTHING = At(2**62, 2**62)


def has_trackers(log: LogConfig) -> bool:
    """Return whether the recipe names any tracker."""
    return log.wandb != "off" or bool(log.to)


def check_trackers(log: LogConfig) -> None:
    """Check that the packages are installed that the trackers need.

    Raises:
        UserError: One is not.
    """
    for name, package in (("wandb", "wandb" if log.wandb != "off" else None), *((name, name) for name in log.to)):
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"log: {name} is not installed; pip install {package}")


def open_trackers(recipe: Recipe, run: RunFolder, at: At, wandb_id: str | None, resolved: Mapping[str, Any], content: str) -> Trackers:
    """Start the clients of a run's trackers, or continue what they have of it.

    Args:
        recipe: The recipe.
        run: The run folder.
        at: The run's optimizer steps and epochs so far.
        wandb_id: wandb's id of the run; None for a new one.
        resolved: What the recipe came to on this machine.
        content: What the run sends, in words.
    """
    openers: dict[str, Callable[[], Tracker]] = {}
    if recipe.log.wandb != "off":
        openers["wandb"] = lambda: WandbTracker(recipe, run, wandb_id, content, {**recipe.model_dump(mode="json"), "resolved": resolved})
    if "tensorboard" in recipe.log.to:
        config = {"recipe": _as_code(dump_recipe(recipe)), "resolved": _as_code(json.dumps(resolved, indent=2))}
        openers["tensorboard"] = lambda: _tensorboard()(run.tensorboard, at, config)
    return Trackers(run.path, openers)


def reopen_trackers(recipe: Recipe, run: RunFolder, group: str, content: str) -> tuple[Trackers, int]:
    """Start the clients again after the training, to add an evaluation; none where the run has none.

    Args:
        recipe: The run's recipe.
        run: The run folder.
        group: Group of the values; in TensorBoard, those that it has are replaced.
        content: What is sent, in words.

    Returns:
        The trackers, and the run's optimizer steps.
    """
    openers: dict[str, Callable[[], Tracker]] = {}
    if has_trackers(recipe.log) and run.is_locked():
        say(f"{run.path}: is being trained, so its trackers are not given this evaluation; do it again afterwards")
        return Trackers(run.path, openers), 0
    wandb_id = _wandb_id(run)
    if recipe.log.wandb != "off" and wandb_id is not None:
        former = len(list(run.path.glob("wandb/*run-*")))
        openers["wandb"] = lambda: WandbEvaluation(recipe, run, wandb_id, content, former)
    if "tensorboard" in recipe.log.to:
        openers["tensorboard"] = lambda: _tensorboard()(run.tensorboard, EVERYTHING, {}, replaces=group)
    return Trackers(run.path, openers, "the rest"), max((row["step"] for row in read_steps(run)), default=0)


def _tensorboard() -> "type[TensorboardTracker]":
    from hw1.tracking.tensorboard_tracker import TensorboardTracker  # imports numpy, for which a mistake in the recipe need not wait

    return TensorboardTracker


def _wandb_id(run: RunFolder) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(run.env.read_bytes())["wandb_id"]
        return found if isinstance(found, str) else None
    return None


def _as_code(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
