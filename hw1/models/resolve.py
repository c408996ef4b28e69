"""Close what a recipe leaves open (`hw1.config.open_values`): by the weights that training starts from, and by the model's stages."""

import re
from typing import Any

from hw1.config.auto import AUTO, AUTO_KEYS
from hw1.config.open_values import IF_THERE
from hw1.config.recipe import IMAGENET_MEAN, IMAGENET_STD, AugConfig, ModelConfig, Recipe
from hw1.models.factory import build_on_meta, pretrained_cfg
from hw1.models.freeze import parameter_names, stage_names

USUAL_SIZE, MAX_SIZE = 224, 1024  # pixels
USUAL_CROP = 0.875  # timm's default
CONTRADICTING = ("mean", "std", "interpolation")
"""Keys of `aug` whose value is wrong for the weights if it is not theirs; a size or a crop may be a choice."""


def resolve(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """Return the recipe without open values, and a line for each thing that the user should know.

    Nothing is wrong here with a model that timm does not know: `check_model` says so, together with all other problems.
    """
    aug, notes = _resolve_aug(recipe.aug, recipe.model)
    stages, more = _resolve_stages(recipe)
    freeze = recipe.freeze.model_copy(update={"stages": stages, **({} if stages else {"until_epoch": None})})
    return recipe.model_copy(update={"aug": aug, "freeze": freeze}), [_describe(aug, recipe.model), *notes, *more]


def expected_by_weights(model: ModelConfig, fit: str = "squash") -> dict[str, Any]:
    """Return what the weights at hand expect of images: the keys of `aug` that may be `auto`.

    It stands in timm's configuration of the model's tag. Weights that were trained on images below 224 pixels, to be used on larger ones
    (torchvision's second, 176), expect the larger size. From scratch it is ImageNet's mean and deviation, and the model's size.

    Args:
        model: The recipe's section `model`; `weights` counts as a file of the model's tag.
        fit: `aug.fit`; the weights' `crop_pct` is meant for `crop` alone, as anything else shows the model the whole image.
    """
    cfg = pretrained_cfg(model.name)
    has_weights = _starts_from_weights(model)
    size = min(cfg.input_size[1:])
    if size < USUAL_SIZE and cfg.test_input_size:
        size = min(cfg.test_input_size[1:])
    mean, std = (cfg.mean, cfg.std) if has_weights else (IMAGENET_MEAN, IMAGENET_STD)
    if model.in_chans == 1:  # as of grey images in three equal channels
        mean, std = ((round(sum(values) / 3, 6),) * 3 for values in (mean, std))
    return {
        "size": min(size, MAX_SIZE),
        "crop_pct": min(cfg.crop_pct if has_weights else USUAL_CROP, 1.0) if fit == "crop" else 1.0,
        "interpolation": cfg.interpolation if has_weights else "bilinear",
        "mean": tuple(mean),
        "std": tuple(std),
    }


def _resolve_aug(aug: AugConfig, model: ModelConfig) -> tuple[AugConfig, list[str]]:
    expected = expected_by_weights(model, aug.fit)
    resolved = aug.model_copy(update={key: expected[key] for key in AUTO_KEYS if getattr(aug, key) == AUTO})
    if not _starts_from_weights(model):
        return resolved, []
    wrong = [key for key in CONTRADICTING if getattr(resolved, key) != expected[key]]
    return resolved, [
        f"aug.{key}: {_shown(getattr(resolved, key))} is not what the weights of {model.name} expect: {_shown(expected[key])} (auto)"
        for key in wrong
    ]


def _describe(aug: AugConfig, model: ModelConfig) -> str:
    """Say in one line what images the model gets, and where that comes from."""
    origin = f"the weights of {model.name}" if _starts_from_weights(model) else "ImageNet, as there are no weights"
    crop = "" if aug.crop_pct == 1 else f", crop_pct {aug.crop_pct}"
    rule = f"{aug.size} pixels, {aug.fit}{crop}, {aug.interpolation}, mean {_shown(aug.mean)}, std {_shown(aug.std)}"
    return f"images: {rule}; what is auto is that of {origin}"


def _starts_from_weights(model: ModelConfig) -> bool:
    return model.weights is not None or bool(model.pretrained and pretrained_cfg(model.name).has_weights)


def _resolve_stages(recipe: Recipe) -> tuple[Any, list[str]]:
    """Return `freeze.stages` without marks; none of the marked ones where the model lacks one of them."""
    stages = recipe.freeze.stages
    if not isinstance(stages, tuple):
        return stages, []
    marked = [stage.removesuffix(IF_THERE) for stage in stages if stage.endswith(IF_THERE)]
    plain: Any = tuple(stage.removesuffix(IF_THERE) for stage in stages)
    if not marked:
        return plain, []
    if len(marked) == 1 and (number := re.fullmatch(r"(\d+)|[\d.e-]+", marked[0])):
        plain = int(marked[0]) if number[1] else float(marked[0])
    try:
        model = build_on_meta(recipe.model)
    except Exception:  # whatever a model refuses its arguments with: `check_model` says it
        return plain, []
    if not isinstance(plain, tuple):
        if hasattr(model, "group_matcher"):
            return plain, []
        return (), [f"freeze.stages: nothing is frozen, as timm has no groups of layers of {recipe.model.name} to count {plain} of"]
    missing = [stage for stage in marked if not parameter_names(model, stage)]
    if not missing:
        return plain, []
    left = tuple(stage for stage in stages if not stage.endswith(IF_THERE))
    there = f"it has {', '.join(stage_names(model))}"
    return left, [f"freeze.stages: nothing of {', '.join(marked)} is frozen, as {recipe.model.name} has no {', '.join(missing)}; {there}"]


def _shown(value: Any) -> str:
    return str([round(each, 4) for each in value]) if isinstance(value, tuple) else str(value)
