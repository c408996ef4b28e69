"""Compare a saved state with the run that it is to continue, before anything of it is used.

A state comes from a file that anyone may have written. torch's fused optimizers read and write memory by the shapes of the parameters
without comparing them with those of their moments, so a wrong shape corrupts the heap.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hw1.errors import UserError
from hw1.training.lr_schedule import updates_per_epoch
from hw1.training.progress import Progress
from hw1.training.train_state import TrainState
from hw1.utils.text import one_line

KEYS = ("model", "optimizer", "schedule", "scaler", "ema", "sums", "progress", "classes", "fingerprint", "wandb_id")
COUNTS = ("epoch", "step", "updates", "best_epoch", "stale_epochs")


def check_state(saved: Mapping[str, Any], state: TrainState, path: str) -> None:
    """Raise `UserError`, in one line, where a saved state does not fit.

    Args:
        saved: What was read.
        state: The state of a new run of the same recipe.
        path: Names the run in the message.
    """
    try:
        if missing := [key for key in KEYS if key not in saved]:
            raise ValueError(f"lacks {', '.join(missing)}")
        check_progress(saved["progress"], state)
        check_weights("model", saved["model"], state.model)
        if (saved["ema"] is None) != (state.ema is None):
            raise ValueError("has averaged weights, or lacks them, against train.ema_decay")
        if state.ema is not None:
            check_weights("ema", saved["ema"], state.ema.module)
        check_optimizer(saved["optimizer"], state.optimizer)
        check_tensor("sums", saved["sums"], state.sums)
        check_like("schedule", saved["schedule"], state.schedule.state_dict())
        check_like("scaler", saved["scaler"], state.scaler.state_dict())
        if not isinstance(saved["wandb_id"], str | None):
            raise ValueError("wandb_id is no text")
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        problem = str(error) if isinstance(error, ValueError) else one_line(error)
        raise UserError(f"{path}: its saved state does not belong to this recipe: {problem}; --overwrite starts over") from None


def check_progress(progress: Mapping[str, Any], state: TrainState) -> None:
    """Raise `ValueError` for a position that no run of this recipe can have."""
    fields = {field.name: field.type for field in dataclasses.fields(Progress)}
    if unknown := sorted(set(progress) - set(fields)):
        raise ValueError(f"progress has unknown {', '.join(unknown)}")
    for name, value in progress.items():
        kind = int if name in COUNTS else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool) or (name in COUNTS and value < 0):
            raise ValueError(f"progress.{name} is {value!r}")
    epoch, step, updates = progress["epoch"], progress["step"], progress["updates"]
    config = state.recipe.train
    windows = updates_per_epoch(config, state.steps_per_epoch)
    if step > state.steps_per_epoch or updates != epoch * windows + updates_per_epoch(config, step):
        raise ValueError(f"epoch {epoch}, step {step} of {state.steps_per_epoch} and {updates} updates do not go together")
    if not 0 <= progress["best_epoch"] <= epoch:
        raise ValueError(f"best epoch {progress['best_epoch']} of {epoch}")


def check_weights(name: str, saved: Mapping[str, Any], model: nn.Module) -> None:
    """Raise `ValueError` where the weights have other names, shapes or types than the model's."""
    expected = model.state_dict()
    if different := sorted(set(saved) ^ set(expected)):
        raise ValueError(f"{name} has other tensors: {', '.join(different[:3])}{' ...' if len(different) > 3 else ''}")
    for key, tensor in expected.items():
        check_tensor(f"{name}.{key}", saved[key], tensor)


def check_optimizer(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise `ValueError` where parameter groups or moments are not those of this optimizer."""
    groups, expected = saved["param_groups"], optimizer.state_dict()["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in expected]:
        raise ValueError("the optimizer's parameter groups differ")
    for group, other in zip(groups, expected, strict=True):
        check_like("optimizer group", {key: value for key, value in group.items() if key in other}, other)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    is_fused = bool(optimizer.defaults.get("fused"))  # reads and writes memory by the parameters' shapes
    for index, moments in saved["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(parameters):
            raise ValueError(f"the optimizer has a state of parameter {index!r}, of {len(parameters)}")
        for key, moment in moments.items():
            if is_fused and isinstance(moment, Tensor) and moment.ndim:
                check_tensor(f"the optimizer's {key} of parameter {index}", moment, parameters[index])


def check_tensor(name: str, saved: Any, expected: Tensor) -> None:
    """Raise `ValueError` unless `saved` is a dense tensor of the shape and type of `expected`."""
    if not isinstance(saved, Tensor):
        raise ValueError(f"{name} is no tensor")
    found, wanted = (saved.layout, saved.dtype, list(saved.shape)), (expected.layout, expected.dtype, list(expected.shape))
    if found != wanted:
        raise ValueError(f"{name} is {saved.dtype} {list(saved.shape)}, not {expected.dtype} {list(expected.shape)}")


def check_like(name: str, saved: Any, expected: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the plain values in `saved` have the keys and kinds of those in `expected`."""
    if not isinstance(saved, Mapping) or set(saved) - {"format"} != set(expected):
        raise ValueError(f"{name} has other entries")
    is_number: Callable[[Any], bool] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)  # noqa: E731
    for key, value in expected.items():
        if type(saved[key]) is not type(value) and not (is_number(saved[key]) and is_number(value)) and None not in (saved[key], value):
            raise ValueError(f"{name}: {key} is {saved[key]!r}")
