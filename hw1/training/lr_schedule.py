"""Learning-rate schedules."""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hw1.config.recipe import SchedConfig


def learning_rate(step: int, config: SchedConfig, *, base_lr: float, num_steps: int, warmup_steps: float) -> float:
    """The rate of optimizer step `step` (from 0) under `cosine` or `constant`.

    Warm-up rises linearly from zero before the first step to `base_lr` at step `warmup_steps` - 1; a fraction of a step is allowed.
    Cosine (Loshchilov & Hutter, "SGDR", equation 5, without restarts) starts there and reaches `min_lr` at the last of `num_steps`.
    """
    rate = base_lr
    if config.name == "cosine":
        progress = (step - warmup_steps) / max(num_steps - 1 - warmup_steps, 1.0)
        progress = min(max(progress, 0.0), 1.0)
        rate = config.min_lr + 0.5 * (base_lr - config.min_lr) * (1.0 + math.cos(math.pi * progress))
    return rate * min((step + 1) / warmup_steps, 1.0) if warmup_steps > 0 else rate


class Schedule:
    """The learning rate of all groups: `before_step` before every optimizer step, `after_epoch` after every validation.

    `cosine` and `constant` are functions of the step alone, so a resumed run needs no history. `plateau` is torch's
    `ReduceLROnPlateau` on validation loss with torch's defaults: better means below the best by a relative 1e-4; more than `patience`
    worse epochs in a row (NaN is worse) cut the rate, by at least 1e-8; no cooldown.
    """

    def __init__(self, optimizer: Optimizer, config: SchedConfig, *, epochs: int, steps_per_epoch: int) -> None:
        self._optimizer = optimizer
        self._config = config
        self._base_lr = float(optimizer.defaults["lr"])  # the groups' own rate may come from a checkpoint, half-way down
        self._num_steps = epochs * steps_per_epoch
        self._warmup_steps = config.warmup_epochs * steps_per_epoch
        self._plateau: ReduceLROnPlateau | None = None
        if config.name == "plateau":
            self._plateau = ReduceLROnPlateau(optimizer, mode="min", factor=config.factor, patience=config.patience, min_lr=config.min_lr)

    def before_step(self, step: int) -> None:
        """Sets the rate of optimizer step `step`, counted from 0 over the whole run."""
        if self._plateau is None:
            rate = learning_rate(step, self._config, base_lr=self._base_lr, num_steps=self._num_steps, warmup_steps=self._warmup_steps)
            self._set_lr(rate)

    def after_epoch(self, val_loss: float) -> None:
        """Takes the epoch's validation loss; only `plateau` looks at it."""
        if self._plateau is not None:
            self._plateau.step(val_loss)

    @property
    def lr(self) -> float:
        """The rate that is set now."""
        return float(self._optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; empty where the rate is a function of the step."""
        return dict(self._plateau.state_dict()) if self._plateau is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()`, the rate included, whether the optimizer's own state is loaded before or after."""
        if self._plateau is not None:
            self._plateau.load_state_dict(dict(state))
            self._set_lr(state["_last_lr"][0])

    def _set_lr(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate


def build_schedule(optimizer: Optimizer, config: SchedConfig, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """The recipe's schedule; `steps_per_epoch` counts optimizer steps, that is batches divided by `train.grad_accum`, rounded up."""
    return Schedule(optimizer, config, epochs=epochs, steps_per_epoch=steps_per_epoch)
