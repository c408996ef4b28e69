"""The optimizer, of timm's, and its parameter groups."""

import inspect
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import Any, cast

import torch
from timm.optim import (
    create_optimizer_v2,  # type: ignore[attr-defined]  # public, but timm does not export them explicitly
    get_optimizer_class,  # type: ignore[attr-defined]
    get_optimizer_info,  # type: ignore[attr-defined]
    param_groups_layer_decay,  # type: ignore[attr-defined]
    param_groups_weight_decay,  # type: ignore[attr-defined]
)
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from hw1.config.recipe import OptimConfig
from hw1.errors import UserError
from hw1.utils.text import one_line

FUSED_DEVICES = ("cuda", "cpu")
CHOOSE_KERNEL = ("fused", "foreach", "differentiable", "dampening")
"""Options with which torch's fused kernels are not taken by themselves; its fused SGD with dampening would begin otherwise."""
NUM_PARTS = 16
"""Of a gradient whose norm is taken by several threads."""
MIN_DIVIDED = 2**16
"""Elements of a gradient from which on that pays."""
ParamGroups = list[dict[str, Any]]


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Build timm's optimizer of this name for the model's trainable parameters, with torch's fused kernels where it has them.

    With `decay_norm_bias` there is one group with weight decay (the report); without, there are timm's two groups: biases, one-dimensional
    parameters and those that `model.no_weight_decay()` names have none. Gradients must come from autograd, which keeps them in their
    parameter's memory order: torch's fused kernels on the CPU require it and do not check it.

    Args:
        model: The model itself, not a compiled or averaged wrapper, whose parameters have other names.
        config: Section `optim` of the recipe.

    Raises:
        UserError: Every parameter is frozen, or the model has no classifier for `head_lr_scale`.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("freeze.stages: every parameter of the model is frozen, nothing is left to train")
    return create_optimizer(parameter_groups(model, config), config)


def check_optimizer(config: OptimConfig) -> list[str]:
    """Return what is wrong with `optim.kwargs`, at most a line, found by a step of the optimizer on a few numbers."""
    info = get_optimizer_info(config.name)
    taken = {"lr": "optim.lr", "weight_decay": "optim.weight_decay", "momentum": "optim.betas"}
    if info.num_betas == 2:
        taken["betas"] = "optim.betas"
    known = [name for name in inspect.signature(get_optimizer_class(config.name, bind_defaults=False)).parameters if name != "params"]
    for name in config.kwargs:
        if name in taken and name in known:
            return [f"optim.kwargs: {name} has a key of its own, {taken[name]}"]
        if name not in known:
            [nearest] = get_close_matches(name, known, n=1, cutoff=0.0)
            return [f"optim.kwargs: {config.name} has no {name!r}; nearest: {nearest}"]
    try:
        parameters = [nn.Parameter(torch.ones(shape)) for shape in ((4, 3, 2, 2), (4, 3), (4,))]
        optimizer = create_optimizer([{"params": parameters}], config)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    except Exception as error:  # each refuses a value in its own way
        return [f"optim.kwargs: {config.name}: {one_line(error)}"]
    return []


def create_optimizer(groups: ParamGroups, config: OptimConfig) -> Optimizer:
    """Create the optimizer of these groups, which hold their own learning rate and weight decay where these differ from the recipe's."""
    info = get_optimizer_info(config.name)
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "momentum": config.betas[0], **config.kwargs}
    if info.num_betas == 2:
        options["betas"] = config.betas  # timm leaves it out where an optimizer has none
    if "nesterov" in (info.defaults or {}) and not config.betas[0]:
        options.setdefault("nesterov", False)
    has_fused = isinstance(info.opt_class, type) and issubclass(info.opt_class, Adam | SGD)
    if has_fused and not options.keys() & set(CHOOSE_KERNEL):
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        options["fused" if devices.issubset(FUSED_DEVICES) else "foreach"] = True
    optimizer = create_optimizer_v2(groups, opt=config.name, **options)
    if isinstance(optimizer, Adam) and optimizer.defaults["fused"]:
        _step_on_contiguous_views(optimizer)
    if isinstance(optimizer, SGD) and optimizer.defaults["fused"] and config.betas[0]:
        # torch's fused kernel would leave the buffer uninitialised if the first step is skipped
        optimizer.state.update(
            {parameter: {"momentum_buffer": torch.zeros_like(parameter)} for group in groups for parameter in group["params"]}
        )
    return optimizer


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of all gradients together, a scalar, as `torch.nn.utils.get_total_norm` does.

    On the CPU torch takes the norm of a tensor with one thread; of a large one in dense order all take a part here.
    """
    if not gradients or any(gradient.device.type != "cpu" for gradient in gradients):
        return nn.utils.get_total_norm(gradients)
    norms = []
    for gradient in gradients:
        dense = _contiguous_view(gradient)
        is_divided = dense.numel() >= MIN_DIVIDED and dense.numel() % NUM_PARTS == 0 and dense.is_contiguous()
        norms.append(torch.linalg.vector_norm(dense.view(NUM_PARTS, -1) if is_divided else dense.reshape(1, -1), dim=1))
    total: Tensor = torch.linalg.vector_norm(torch.cat(norms))
    return total


def _contiguous_view(tensor: Tensor) -> Tensor:
    """Return a view in which a tensor [A, B, C, D] in channels_last order is contiguous; any other tensor as it is."""
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 and not tensor.is_contiguous() else tensor


def _step_on_contiguous_views(optimizer: Adam) -> None:
    """Show the fused kernel parameters in channels_last order on the CPU, their gradients and states, as contiguous views.

    It changes each number by itself, so that their order is nothing to it; but of a tensor that is not contiguous it makes a copy, which
    takes twice as long as the step.
    """
    collect: Callable[..., Any] = optimizer._init_group

    def collect_views(group: dict[str, Any], parameters: list[Tensor], *others: list[Tensor]) -> bool:
        has_complex = collect(group, parameters, *others)
        is_permuted = [p.device.type == "cpu" and p.ndim == 4 and not p.is_contiguous() for p in parameters]
        for tensors in (parameters, *others):
            for number, tensor in enumerate(tensors):
                if is_permuted[number] and tensor.ndim == 4:
                    tensors[number] = tensor.permute(0, 2, 3, 1)
        return bool(has_complex)

    optimizer._init_group = collect_views  # type: ignore[method-assign]


def parameter_groups(model: nn.Module, config: OptimConfig) -> ParamGroups:
    """Divide the trainable parameters by weight decay and by learning rate; `lr_scale` of a group is its share of the schedule's rate."""
    exempt: Collection[str] = () if config.decay_norm_bias else getattr(model, "no_weight_decay", tuple)()
    groups: ParamGroups
    if config.layer_decay is not None:
        groups = param_groups_layer_decay(
            model,
            config.weight_decay,
            exempt,
            weight_decay_exclude_1d=not config.decay_norm_bias,
            layer_decay=config.layer_decay,
        )
    elif config.decay_norm_bias:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": parameters, "weight_decay": config.weight_decay}]
    else:
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=exempt)
    if config.head_lr_scale != 1:
        groups = _scale_head(groups, classifier_parameters(model), config.head_lr_scale)
    for group in groups:
        if "lr_scale" in group:
            group["lr"] = config.lr * group["lr_scale"]
    return groups


def classifier_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the model's classifiers, by the names that timm has for them.

    Raises:
        UserError: It has none.
    """
    names = cast("dict[str, Any]", model.pretrained_cfg).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    if found := [parameter for name, parameter in model.named_parameters() if name.startswith(prefixes)]:
        return found
    raise UserError("optim.head_lr_scale: timm names no classifier of this model; leave it at 1")


def _scale_head(groups: ParamGroups, head: list[nn.Parameter], scale: float) -> ParamGroups:
    """Split each group with parameters of the head in two."""
    ids = {id(parameter) for parameter in head}
    split: ParamGroups = []
    for group in groups:
        for is_head in (False, True):
            if parameters := [parameter for parameter in group["params"] if (id(parameter) in ids) is is_head]:
                split.append({**group, "params": parameters, "lr_scale": group.get("lr_scale", 1.0) * (scale if is_head else 1.0)})
    return split
