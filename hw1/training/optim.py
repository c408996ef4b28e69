"""The optimizer and its parameter groups."""

from collections.abc import Collection
from typing import Any

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]  # public, but timm does not export it explicitly
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from hw1.config.recipe import OptimConfig
from hw1.errors import UserError

FUSED_DEVICES = ("cuda", "cpu")


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Build AdamW, or SGD with Nesterov momentum `betas[0]` and coupled weight decay, for the model's trainable parameters.

    With `decay_norm_bias` there is one group with weight decay (the report); without, there are timm's two groups: biases, one-dimensional
    parameters and those that `model.no_weight_decay()` names have none. Gradients must come from autograd, which keeps them in their
    parameter's memory order: torch's fused kernels on the CPU require it and do not check it.

    Args:
        model: The model itself, not a compiled or averaged wrapper, whose parameters have other names.
        config: Section `optim` of the recipe.

    Raises:
        UserError: Every parameter is frozen.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError("freeze.stages: every parameter of the model is frozen, nothing is left to train")
    groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": config.weight_decay}]
    if not config.decay_norm_bias:
        exempt: Collection[str] = getattr(model, "no_weight_decay", tuple)()
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=exempt)
    fused = all(parameter.device.type in FUSED_DEVICES for parameter in parameters)
    kernel = {"fused": True} if fused else {"foreach": True}
    if config.name == "adamw":
        return AdamW(groups, lr=config.lr, betas=config.betas, **kernel)
    momentum = config.betas[0]
    optimizer = SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0, **kernel)
    if momentum:  # torch's fused kernel would leave the buffer uninitialised if the first step is skipped
        optimizer.state.update({parameter: {"momentum_buffer": torch.zeros_like(parameter)} for parameter in parameters})
    return optimizer
