"""Freeze stages of a model: their parameters keep their values, their BatchNorm statistics may too.

Stages are named, or counted from the input on in timm's groups of layers (`FreezeConfig.stages`).

A stage is `stem` (conv1 and bn1 of a ResNet) or the name of a module as `named_modules` gives it (`layer1`; `blocks.0` of a vision
transformer). A CBAM inside a stage starts at random, so it is frozen only when it is named itself. All functions take the bare model,
not a DistributedDataParallel wrapper nor the result of torch.compile.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hw1.config.recipe import FreezeConfig
from hw1.errors import UserError
from hw1.models.cbam import Cbam

STEM = "stem"


def freeze_stages(model: nn.Module, config: FreezeConfig) -> list[str]:
    """Switch off `requires_grad` of the stages' parameters.

    Returns:
        Names of the frozen parameters, in the model's order.

    Raises:
        UserError: The model lacks a stage; the message names those that it has.
    """
    if problems := check_freeze(model, config):
        raise UserError(*problems)
    frozen = _frozen_names(model, config)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return [name for name, _ in model.named_parameters() if name in frozen]


def set_train_mode(model: nn.Module, config: FreezeConfig) -> None:
    """Call `model.train()`, then put the BatchNorms of the frozen stages back to eval mode if `config.bn` is `eval`.

    Call it instead of `model.train()`, which alone would let them update their statistics.
    """
    model.train()
    if config.bn == "eval":
        for module in _frozen_modules(model, config):
            if isinstance(module, _BatchNorm):
                module.eval()


def check_freeze(model: nn.Module, config: FreezeConfig) -> list[str]:
    """Return the problems of `freeze.stages` with this model, a line each; the model may be on the meta device."""
    problems = _unknown_stages(model, config.stages) if isinstance(config.stages, tuple) else _too_deep(model, config.stages)
    if not problems:
        frozen = _frozen_names(model, config)
        if all(name in frozen for name, _ in model.named_parameters()):
            problems.append("freeze.stages: leaves nothing to train")
    return problems


def _unknown_stages(model: nn.Module, named: tuple[str, ...]) -> list[str]:
    problems = []
    for stage in named:
        if not parameter_names(model, stage):
            stages = stage_names(model)
            nearest = difflib.get_close_matches(stage, stages, n=1) or difflib.get_close_matches(stage, _all_names(model), n=1, cutoff=0.0)
            problems.append(f"freeze.stages: this model has no stage {stage!r}, the nearest is {nearest[0]!r}; it has {', '.join(stages)}")
    return problems


def _too_deep(model: nn.Module, depth: float) -> list[str]:
    if not hasattr(model, "group_matcher"):
        return [f"freeze.stages: this model has no groups to count {depth} of; name its stages: {', '.join(stage_names(model))}"]
    num_groups = len(_groups(model))
    return [f"freeze.stages: this model has {num_groups} groups of layers, got {depth}"] if depth > num_groups else []


def _frozen_names(model: nn.Module, config: FreezeConfig) -> set[str]:
    """Return the names of the parameters that are not trained."""
    if isinstance(config.stages, tuple):
        return {name for stage in config.stages for name in parameter_names(model, stage)}
    groups = _groups(model)
    depth = config.stages if isinstance(config.stages, int) else int(config.stages * len(groups))
    inside = _inside_cbam(model.modules())
    return {name for group in groups[:depth] for name in group if id(model.get_parameter(name)) not in inside}


def _groups(model: nn.Module) -> list[list[str]]:
    """Return the names of the parameters in timm's groups of layers, by which its layer-wise learning rates go, from the input on."""
    groups = group_parameters(model, model.group_matcher(coarse=False))  # type: ignore[operator]
    return [groups[number] for number in sorted(groups)]


def _inside_cbam(modules: Iterable[nn.Module]) -> set[int]:
    return {id(parameter) for module in modules if isinstance(module, Cbam) for parameter in module.parameters()}


def stage_names(model: nn.Module) -> list[str]:
    """Return `stem`, if the model has one, and the top-level modules with parameters outside of stem and classifier, in order.

    Modules inside those can be frozen too, by their full names.
    """
    stem = set(parameter_names(model, STEM))
    classifiers = cast("dict[str, Any]", model.pretrained_cfg).get("classifier") or ()
    heads = {name.partition(".")[0] for name in ([classifiers] if isinstance(classifiers, str) else classifiers)}
    children = [name for name, _ in model.named_children() if name not in heads and not stem.issuperset(parameter_names(model, name))]
    return [STEM] * bool(stem) + children


def parameter_names(model: nn.Module, stage: str) -> list[str]:
    """Return full names of the stage's parameters; none if the model has no such stage, or it has no parameters."""
    if patterns := _stem_patterns(model) if stage == STEM else []:
        return [name for name, _ in model.named_parameters() if _matches(patterns, name)]
    modules = dict(model.named_modules())
    if not stage or stage not in modules:
        return []
    inside = _inside_cbam(module for module in modules[stage].modules() if module is not modules[stage])
    return [name for name, parameter in modules[stage].named_parameters(prefix=stage) if id(parameter) not in inside]


def _all_names(model: nn.Module) -> list[str]:
    """Return every name that a stage may have."""
    return [name for name in (STEM, *dict(model.named_modules())) if parameter_names(model, name)]


def _frozen_modules(model: nn.Module, config: FreezeConfig) -> Iterator[nn.Module]:
    """Iterate over all modules that are not trained."""
    if isinstance(config.stages, tuple):
        return (module for stage in config.stages for module in _modules(model, stage))
    frozen = {id(model.get_parameter(name)) for name in _frozen_names(model, config)}
    own = ((module, [id(parameter) for parameter in module.parameters()]) for module in model.modules())
    return (module for module, parameters in own if parameters and frozen.issuperset(parameters))


def _modules(model: nn.Module, stage: str) -> Iterator[nn.Module]:
    """Iterate over all modules of the stage."""
    if patterns := _stem_patterns(model) if stage == STEM else []:
        return (module for name, module in model.named_modules() if _matches(patterns, name))
    return model.get_submodule(stage).modules()


def _stem_patterns(model: nn.Module) -> list[str]:
    """Return regular expressions of the parameters that timm groups as the stem, in most models the first layers."""
    groups = model.group_matcher() if hasattr(model, "group_matcher") else None  # type: ignore[operator]
    spec = groups.get(STEM) if isinstance(groups, dict) else None
    if spec is None or isinstance(spec, str):
        return [spec] if spec else []
    return [pattern for pattern, _ in spec]


def _matches(patterns: list[str], name: str) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)
