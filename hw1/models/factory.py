"""Build the model of a recipe's `model` section with its starting weights: any timm model, including this project's `*_cbam` ones."""

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_pretrained_cfg, is_model_in_modules, split_model_name_tag
from torch import nn

from hw1.config.recipe import FreezeConfig, ModelConfig
from hw1.errors import UserError
from hw1.models.fit_weights import Renamed, absent_cbam_keys, fit_names, why_unfit
from hw1.models.freeze import check_freeze
from hw1.models.hub import cached_file, how_to_download, why_unreachable
from hw1.models.weights import NUM_NAMED, Weights, WeightsError, read_weights
from hw1.utils.console import say
from hw1.utils.files import missing_file
from hw1.utils.text import one_line, some_of

NUM_TRIED = 10  # classes of a model that is only tried
MIN_BATCH = 2  # images: the loader fills up a batch of one, which BatchNorm behind a global pool cannot train on
CBAM_ONLY = ("cbam_reduction", "cbam_kernel", "cbam_init")  # keys without effect where there is no CBAM


OF_ARGUMENT = {"drop_rate": ("drop_rate", "dropout"), "drop_path_rate": ("drop_path", "stochastic depth")}
"""Keys of `model`, and what they are, by the argument of a constructor that they become and that not every model has."""


class NoClassifierError(Exception):
    """A model of timm's gives features only."""


class NoCheckpointingError(Exception):
    """A model of timm's cannot compute its features again."""


def build_model(
    config: ModelConfig,
    num_classes: int,
    *,
    load_weights: bool = True,
    image_size: int | None = None,
    tell: Callable[[str], None] = say,
) -> nn.Module:
    """Build the model on the CPU, in train mode; it maps images [B, 3, H, W] to logits [B, num_classes].

    It starts from the file `config.weights`; else, with `config.pretrained`, from timm's weights of the model's tag (from the hub's local
    cache, else downloaded); else at random. The weights may lack tensors of CBAM only. A classifier of `num_classes` outputs is loaded
    with them, any other is replaced by a new one. What was changed on the way from the file to the model is told in one line.

    Args:
        config: Section `model` of the recipe.
        num_classes: Outputs of the model.
        load_weights: Whether to load weights; without, neither file nor network is touched.
        image_size: Height and width in pixels, for models made for one size (most vision transformers); checked with every model.
        tell: Is given that line.

    Raises:
        UserError: With all problems that `check_model` names, or with what is wrong with the weights.
    """
    if not load_weights:
        return _build_empty(config, num_classes, image_size)
    if problems := check_model(config, image_size=image_size):
        raise UserError(*problems)
    kwargs = _model_kwargs(config, image_size)
    if config.weights is not None:
        model = _load_file(config.name, config.weights, num_classes, kwargs, tell)
    elif config.pretrained:
        model = _load_published(config.name, kwargs)
    else:
        model = timm.create_model(config.name, num_classes=num_classes, **kwargs)
    _finish(model, config, num_classes)
    return model


def _build_empty(config: ModelConfig, num_classes: int, image_size: int | None) -> nn.Module:
    """Build the model for weights of a run, which was checked when it began: it is checked again only where it cannot be built."""
    try:
        model = timm.create_model(config.name, num_classes=num_classes, **_model_kwargs(config, image_size))
        _finish(model, config, num_classes)
    except Exception:
        if problems := check_model(config, load_weights=False, image_size=image_size):
            raise UserError(*problems) from None
        raise
    return model


def check_model(
    config: ModelConfig, freeze: FreezeConfig | None = None, *, load_weights: bool = True, image_size: int | None = None
) -> list[str]:
    """Check the sections `model` and `freeze` without reading weights or the network.

    The model is built on the meta device, which takes no memory and, except for a few of timm's models, under a second. With
    `image_size` two images of that height and width go through it as in training, the fewest that the loader makes a batch of: many models
    take certain sizes only, and some of timm's are no classifiers.

    Returns:
        All problems, a line each.
    """
    problems = missing_file("model.weights", config.weights) if load_weights else []
    if unknown := _unknown_name(config.name):
        return [unknown, *problems]
    problems += _unusable_options(config)
    if load_weights and config.weights is None and config.pretrained and not pretrained_cfg(config.name).has_weights:
        problems.append(f"model.pretrained: timm has no weights of {config.name}; set it to false, or set model.weights")
    try:
        model = build_on_meta(config, image_size)
    except Exception as error:  # each of timm's models refuses its arguments in its own way
        return problems + _why_unusable(error, config, image_size)
    return problems + (check_freeze(model, freeze) if freeze else [])


def build_on_meta(config: ModelConfig, image_size: int | None = None) -> nn.Module:
    """Build the model without memory, in train mode, and try a batch.

    Raises:
        NoClassifierError: It gives no score for each class.
        Exception: Of any kind, for a size or an option that it does not take.
    """
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(config.name, num_classes=NUM_TRIED, **_model_kwargs(config, image_size))
        _finish(model, config, NUM_TRIED)
        if image_size is not None:
            logits = model(torch.empty(MIN_BATCH, config.in_chans, image_size, image_size))
            if not isinstance(logits, torch.Tensor) or logits.shape != (MIN_BATCH, NUM_TRIED):
                raise NoClassifierError
    return model


def _why_unusable(error: Exception, config: ModelConfig, image_size: int | None) -> list[str]:
    """Return what is wrong with a model that `build_on_meta` cannot build or try, a line each."""
    if isinstance(error, NoClassifierError):
        return [f"model.name: {config.name} is no classifier: it gives features, not a score for each class"]
    if isinstance(error, NoCheckpointingError):
        return [f"model.grad_checkpointing: {config.name} has none; set it to false"]
    refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if refused and (refused[1] in OF_ARGUMENT or refused[1] in config.kwargs):
        problems, config = _without(refused[1], config)
        try:
            build_on_meta(config, image_size)
        except Exception as other:
            problems += _why_unusable(other, config, image_size)
        return problems
    own = pretrained_cfg(config.name).input_size[1:]
    size = f"images of {image_size} x {image_size} pixels (aug.size; timm's are {own[0]} x {own[1]}) and " if image_size else ""
    return [f"model.name: {config.name} fails with {size}drop_rate={config.drop_rate}: {one_line(error)}"]


def _without(argument: str, config: ModelConfig) -> tuple[list[str], ModelConfig]:
    """Return what is wrong with an argument that the model's constructor does not take, and the section without it."""
    if argument in config.kwargs:
        kwargs = {name: value for name, value in config.kwargs.items() if name != argument}
        return [f"model.kwargs: {config.name} has no {argument!r}"], config.model_copy(update={"kwargs": kwargs})
    option, what = OF_ARGUMENT[argument]
    return [f"model.{option}: {config.name} has no {what}; set it to 0"], config.model_copy(update={option: 0.0})


def _finish(model: nn.Module, config: ModelConfig, num_classes: int) -> None:
    """Set what is no argument of the constructor: the classes, and gradient checkpointing."""
    _set_classes(model, num_classes)
    if config.grad_checkpointing:
        try:
            model.set_grad_checkpointing(True)  # type: ignore[operator]
        except (AttributeError, AssertionError):  # timm's way to refuse it
            raise NoCheckpointingError from None


def _set_classes(model: nn.Module, num_classes: int) -> None:
    """Give the model a new classifier unless it has one of so many classes.

    Raises:
        NoClassifierError: It cannot have one.
    """
    if model.num_classes != num_classes:
        if not hasattr(model, "reset_classifier"):
            raise NoClassifierError
        model.reset_classifier(num_classes)  # type: ignore[operator]


def _unknown_name(name: str) -> str | None:
    """Return what is wrong with a model or tag that timm does not know, with the nearest known one; None if timm knows it."""
    arch, tag = split_model_name_tag(name)
    known = timm.list_models()
    if arch not in known:
        nearest = difflib.get_close_matches(arch, known, n=3, cutoff=0.5)
        hint = f"the nearest are {', '.join(nearest)}" if nearest else "timm.list_models() names all"
        return f"model.name: timm has no model {arch!r}; {hint}"
    tags = [full.partition(".")[2] for full in get_arch_pretrained_cfgs(arch)]
    if tag and tag not in tags:
        nearest = difflib.get_close_matches(tag, tags, n=1, cutoff=0.0)
        hint = f"the nearest is {nearest[0]!r} of {', '.join(tags)}" if any(tags) else "it has none"
        return f"model.name: {arch} has no weights tagged {tag!r}; {hint}"
    return None


def _unusable_options(config: ModelConfig) -> list[str]:
    """Return a line for each option that has no effect on this model."""
    neutral = {name: ModelConfig.model_fields[name].default for name in CBAM_ONLY}
    if not _is_resnet_cbam(config.name):
        neutral |= {"cbam_stages": (), "drop_layer3": 0.0}
        reason = f"{config.name} cannot honour it, only the *_cbam models can"
    elif not config.cbam_stages:
        reason = "there is no CBAM, as model.cbam_stages is []"
    else:
        return []
    return [f"model.{key}: {reason}; set it to {json.dumps(value)}" for key, value in neutral.items() if getattr(config, key) != value]


def pretrained_cfg(name: str) -> PretrainedCfg:
    """Return timm's configuration of the model's tag, or of its default tag; an empty one for a model registered without any."""
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag, of which `check_model` tells
        cfg = get_pretrained_cfg(split_model_name_tag(name)[0])
    return cfg or PretrainedCfg()


def _is_resnet_cbam(name: str) -> bool:
    return is_model_in_modules(name, "resnet_cbam")


def _model_kwargs(config: ModelConfig, image_size: int | None) -> dict[str, Any]:
    """Return the arguments of the model's constructor, without the number of classes."""
    kwargs: dict[str, Any] = {"drop_rate": config.drop_rate} if config.drop_rate else {}
    kwargs |= {"drop_path_rate": config.drop_path} if config.drop_path else {}
    kwargs |= {"in_chans": config.in_chans} if config.in_chans != 3 else {}
    kwargs |= {name: _as_tuple(value) for name, value in config.kwargs.items()}
    if _is_resnet_cbam(config.name):
        names = ("cbam_stages", *CBAM_ONLY, "drop_layer3")
        kwargs |= {name: getattr(config, name) for name in names}
    if image_size is not None and pretrained_cfg(config.name).fixed_input_size:
        kwargs["img_size"] = image_size
    return kwargs


def _as_tuple(value: Any) -> Any:
    """Return lists, which is what YAML has, as timm's own arguments are."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _load_file(name: str, path: str, num_classes: int, kwargs: dict[str, Any], tell: Callable[[str], None]) -> nn.Module:
    """Return the model with as many classes as the file has, so that timm loads all of it strictly; tell what was changed."""
    try:
        weights = read_weights(Path(path))
    except WeightsError as error:
        raise UserError(f"model.weights: {path}: {error}") from error
    with torch.device("meta"):
        empty = timm.create_model(name, **kwargs)
    renamed = fit_names(weights.state_dict, empty.state_dict())
    state_dict, head = _split_off_head(renamed.state_dict, pretrained_cfg(name))
    num_rows = _num_classes_in(state_dict, pretrained_cfg(name))
    overlay = {"state_dict": state_dict, "num_classes": num_rows, "label_offset": None}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=num_rows, pretrained_cfg_overlay=overlay, **kwargs)
    except Exception as error:  # a model's reader of other formats may fail in any way on a file of another model
        problem = str(error) if isinstance(error, WeightsError) else why_unfit(state_dict, empty, _head_names(pretrained_cfg(name)))
        raise UserError(f"model.weights: {path}: {problem or f'do not fit {name} ({one_line(error)})'}; {weights.describe()}") from error
    cast("dict[str, Any]", model.pretrained_cfg).pop("state_dict")  # else they would stay in memory
    tell(f"model.weights: {path}: {'; '.join(_changes(weights, renamed, head, num_rows, num_classes, model))}")
    return model


def _changes(weights: Weights, renamed: Renamed, head: list[str], num_rows: int, num_classes: int, model: nn.Module) -> list[str]:
    """Return what was changed between the file and the model, each in a few words."""
    changes = [f"took {weights.taken_from}"] if weights.taken_from else []
    if renamed.prefix:
        changes.append(f"stripped {renamed.prefix} off the names")
    if left_out := renamed.left_out + head:
        changes.append(f"left out {some_of(left_out, NUM_NAMED)}")
    if new := sorted({key.partition(".cbam.")[0] for key in absent_cbam_keys(renamed.state_dict, model)}):
        changes.append(f"new CBAM after {', '.join(new)}")
    if num_rows == num_classes:
        changes.append(f"kept its classifier of {num_rows} classes, which must be those of the data in the same order")
    else:
        changes.append(f"new classifier of {num_classes} classes" + (f" in place of its {num_rows}" if num_rows else ", as it has none"))
    return changes


def _split_off_head(state_dict: dict[str, torch.Tensor], cfg: PretrainedCfg) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights without a head of another kind than the model's, such as MoCo's two layers, and its names."""
    head = [key for name in _classifiers(cfg) if f"{name}.weight" not in state_dict for key in state_dict if key.startswith(f"{name}.")]
    return {key: value for key, value in state_dict.items() if key not in head}, head


def _load_published(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Return the model with timm's weights and their number of classes, so that timm loads all of them strictly."""
    cfg = pretrained_cfg(name)
    cached = cached_file(cfg)
    if cached is None and (reason := why_unreachable(cfg)):
        raise UserError(f"model.pretrained: no weights of {name}: {reason}; {how_to_download(cfg)}")
    overlay = {"file": str(cached)} if cached else None
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
    except Exception as error:  # errors of the hub's client and the models' readers have no common base
        raise UserError(f"model.pretrained: no weights of {name}: {one_line(error)}; {how_to_download(cfg)}") from error


def _num_classes_in(state_dict: dict[str, torch.Tensor], cfg: PretrainedCfg) -> int:
    """Return the outputs of the classifier in the file; 0 if it has no classifier by timm's name for it."""
    for classifier in _classifiers(cfg):
        if (weight := state_dict.get(f"{classifier}.weight")) is not None and weight.ndim:
            return len(weight)
    return 0


def _head_names(cfg: PretrainedCfg) -> set[str]:
    return {f"{classifier}.{name}" for classifier in _classifiers(cfg) for name in ("weight", "bias")}


def _classifiers(cfg: PretrainedCfg) -> list[str]:
    """Return timm's names of the model's last layers: one, of distilled models two."""
    return [cfg.classifier] if isinstance(cfg.classifier, str) else list(cfg.classifier or [])
