"""Optimizer, parameter groups and learning-rate schedules."""

from collections.abc import Collection
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from hw1.config.recipe import OptimConfig
from hw1.errors import UserError

FUSED_DEVICES = ("cuda", "cpu")


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """AdamW, or SGD with Nesterov momentum `betas[0]` and coupled weight decay, over what the model trains.

    Frozen parameters are in no group. With `decay_norm_bias` there is one group, all of which decays (the report); without, timm's two:
    biases, one-dimensional parameters and those that `model.no_weight_decay()` names do not decay. Give the model itself, not a
    compiled or averaged wrapper, whose parameters have other names. Gradients must come from autograd: it keeps them in their
    parameter's memory order, which torch's fused kernels on the CPU take for granted without a check.

    Raises `UserError` if nothing is trainable.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("freeze.stages: every parameter of the model is frozen, nothing is left to train")
    groups: list[dict[str, Any]] = [{"params": trained, "weight_decay": config.weight_decay}]
    if not config.decay_norm_bias:
        exempt: Collection[str] = getattr(model, "no_weight_decay", tuple)()
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=exempt)
    fused = all(parameter.device.type in FUSED_DEVICES for parameter in trained)
    kernel = {"fused": True} if fused else {"foreach": True}
    if config.name == "adamw":
        return AdamW(groups, lr=config.lr, betas=config.betas, **kernel)
    momentum = config.betas[0]
    optimizer = SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0, **kernel)
    if momentum:  # torch's fused kernel would leave its own memory unset where the first step is left out
        optimizer.state.update({parameter: {"momentum_buffer": torch.zeros_like(parameter)} for parameter in trained})
    return optimizer
