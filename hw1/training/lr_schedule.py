"""Learning-rate schedules."""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hw1.config.recipe import SchedConfig, TrainConfig


def learning_rate(step: int, config: SchedConfig, *, base_lr: float, num_steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of an optimizer step under any schedule but `plateau`.

    Warm-up rises linearly from zero before the first step to `base_lr` at the last step of the warm-up. Cosine (Loshchilov & Hutter,
    "SGDR", equation 5, without restarts) and poly start there and reach `min_lr` at the last step. The epochs of step and multistep are
    counted from the beginning of the run.

    Args:
        step: From 0 over the whole run.
        config: Section `sched` of the recipe.
        base_lr: Largest rate.
        num_steps: Of the whole run.
        steps_per_epoch: Optimizer steps.
    """
    warmup_steps = config.warmup_epochs * steps_per_epoch
    rate = base_lr
    if config.name in ("cosine", "poly"):
        progress = (step - warmup_steps) / max(num_steps - 1 - warmup_steps, 1.0)
        progress = min(max(progress, 0.0), 1.0)
        share = 0.5 * (1.0 + math.cos(math.pi * progress)) if config.name == "cosine" else (1.0 - progress) ** config.power
        rate = config.min_lr + (base_lr - config.min_lr) * share
    elif config.name == "step":
        rate *= config.factor ** int(step / (config.decay_epochs * steps_per_epoch))
    elif config.name == "multistep":
        rate *= config.factor ** sum(step >= milestone * steps_per_epoch for milestone in config.milestones)
    return rate * min((step + 1) / warmup_steps, 1.0) if warmup_steps > 0 else rate


class Schedule:
    """Set the learning rate of all parameter groups, where `lr_scale` of a group multiplies it.

    Call `before_step` before every optimizer step and `after_epoch` after every validation. All but `plateau` are functions of the step
    alone, so a resumed run needs no history. `plateau` is torch's `ReduceLROnPlateau` on validation loss with torch's defaults: a loss
    is better if it is below the best by a relative 1e-4; more than `patience` epochs in a row that are not better (NaN is not) reduce the
    rate, unless by less than 1e-8; there is no cooldown.

    Args:
        optimizer: Its default rate is the base rate.
        config: Section `sched` of the recipe.
        epochs: Of the whole run.
        steps_per_epoch: Optimizer steps: batches divided by `train.grad_accum`, rounded up.
    """

    def __init__(self, optimizer: Optimizer, config: SchedConfig, *, epochs: int, steps_per_epoch: int) -> None:
        self._optimizer = optimizer
        self._config = config
        self._base_lr = float(optimizer.defaults["lr"])  # not the groups' rate, which may come from a checkpoint
        self._num_steps = epochs * steps_per_epoch
        self._steps_per_epoch = steps_per_epoch
        self._plateau: ReduceLROnPlateau | None = None
        if config.name == "plateau":
            lowest = [config.min_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
            self._plateau = ReduceLROnPlateau(optimizer, mode="min", factor=config.factor, patience=config.patience, min_lr=lowest)

    def before_step(self, step: int) -> None:
        """Set the rate of optimizer step `step`, counted from 0 over the whole run."""
        if self._plateau is None:
            length = {"num_steps": self._num_steps, "steps_per_epoch": self._steps_per_epoch}
            self._set_lr(learning_rate(step, self._config, base_lr=self._base_lr, **length))

    def after_epoch(self, val_loss: float) -> None:
        """Update `plateau` with the epoch's validation loss; do nothing for the others."""
        if self._plateau is not None:
            self._plateau.step(val_loss)

    @property
    def lr(self) -> float:
        """The current rate, of a group whose `lr_scale` is 1."""
        group = self._optimizer.param_groups[0]
        return float(group["lr"] / group.get("lr_scale", 1.0))

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, strings and lists; an empty dict if the rate is a function of the step."""
        return dict(self._plateau.state_dict()) if self._plateau is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` and set its rate, so that the optimizer's state may be loaded before or after."""
        if self._plateau is not None:
            self._plateau.load_state_dict(dict(state))
            for group, rate in zip(self._optimizer.param_groups, state["_last_lr"], strict=True):
                group["lr"] = rate

    def _set_lr(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)


def updates_per_epoch(config: TrainConfig, num_batches: int) -> int:
    """Return the optimizer steps of an epoch, or of the part of it that is done, of so many batches."""
    return -(-num_batches // config.grad_accum)


def build_schedule(optimizer: Optimizer, config: SchedConfig, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """Build the recipe's schedule; see `Schedule`."""
    return Schedule(optimizer, config, epochs=epochs, steps_per_epoch=steps_per_epoch)
