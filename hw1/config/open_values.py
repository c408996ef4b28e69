"""Values that a recipe leaves open until the model, the data or the device is known.

`auto` of `aug`, and what a recipe says for another model than the one it trains: `hw1.models.resolve` closes them when a run begins. So do
`hw1.data.flat_folder` with `data.val_fraction: null` of a flat folder, `hw1.data.label_columns` with the columns of `data.labels` and
`hw1.training.batch_size` with `data.batch_size: auto`. The run's config.yaml holds none, so that a run that is continued takes its own.
"""

from collections.abc import Sequence
from typing import Any

from hw1.config.auto import AUTO, AUTO_KEYS
from hw1.config.recipe import FLAT_VAL_FRACTION, DataConfig, ModelConfig, Recipe, step_images
from hw1.config.settings import COMMAND_LINE, Setting, Settings

IF_THERE = "?"
"""Ends the name of a frozen stage that was written for another model: frozen only where the model has all of these. A number of groups, or
their share, stands as the one such name: frozen only where timm groups the model's layers."""
CBAM_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
WITHOUT_CBAM: dict[str, Any] = {
    "cbam_stages": (), "drop_layer3": 0.0,
    **{name: ModelConfig.model_fields[name].default for name in ("cbam_reduction", "cbam_kernel", "cbam_init")},
}  # fmt: skip
"""Keys of `model` that only the `*_cbam` models honour, and the values with which they ask for nothing."""


def has_cbam(model_name: str) -> bool:
    """Return whether this is one of the project's models, by its name in timm, with or without a tag."""
    return model_name.partition(".")[0].endswith("_cbam")


def leave_open(settings: Settings) -> list[str]:
    """Change the settings that were not written for the model: not on the command line, nor in the file that sets `model.name`.

    Keys of CBAM are set to nothing for a model without; stages are frozen only where the model has them. Keys of `aug` that stand nowhere
    are `auto`.

    Returns:
        What has no effect, a line each.
    """
    for key in AUTO_KEYS:
        settings.setdefault(f"aug.{key}", Setting(AUTO, ""))
    setting = settings.get("model.name")
    if setting is None or not isinstance(setting.value, str):
        return []
    name, source = setting.value, setting.source

    def is_of_another_model(key: str) -> bool:
        return key in settings and settings[key].source not in (source, COMMAND_LINE)

    left_out: list[str] = []
    for option, nothing in WITHOUT_CBAM.items() if not has_cbam(name) else ():
        key = f"model.{option}"
        if is_of_another_model(key):
            value = settings[key].value
            settings[key] = settings[key]._replace(value=list(nothing) if isinstance(nothing, tuple) else nothing)
            left_out += [key] * (value != settings[key].value)
    if is_of_another_model("freeze.stages"):
        stages = settings["freeze.stages"].value
        is_shared = has_cbam(name) and isinstance(stages, list) and all(stage in CBAM_STAGES for stage in stages)
        settings["freeze.stages"] = settings["freeze.stages"]._replace(value=stages if is_shared else _marked(stages))
    return [f"{', '.join(left_out)}: only the *_cbam models have them, and {name} goes without"] if left_out else []


def is_open(key: str, value: Any) -> bool:
    """Return whether a value is left open.

    Args:
        key: Dotted.
        value: Of a recipe.
    """
    section, _, name = key.partition(".")
    return (section == "aug" and name in AUTO_KEYS and value == AUTO) or (key == "freeze.stages" and _is_marked(value))


def close_like(recipe: Recipe, run: Recipe) -> Recipe:
    """Return the recipe with the values of the run in the place of open ones."""
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    if isinstance(recipe.data.batch_size, str) and step_images(recipe) == step_images(run):
        data["batch_size"], train["grad_accum"] = run.data.batch_size, run.train.grad_accum
    if recipe.data.val_fraction is None and recipe.data.dataset is None and run.data.val_fraction == FLAT_VAL_FRACTION:
        data["val_fraction"] = FLAT_VAL_FRACTION
    if recipe.data.labels is not None:
        columns = [name for name in DataConfig.model_fields if name.endswith("_column")]
        data |= {name: getattr(run.data, name) for name in columns if getattr(recipe.data, name) is None}
    aug = {name: getattr(run.aug, name) for name in AUTO_KEYS if getattr(recipe.aug, name) == AUTO}
    freeze: dict[str, Any] = {"stages": run.freeze.stages} if _is_marked(recipe.freeze.stages) else {}
    if freeze and not run.freeze.stages:
        freeze["until_epoch"] = None
    changes = {"data": data, "aug": aug, "freeze": freeze, "train": train}
    return recipe.model_copy(update={name: getattr(recipe, name).model_copy(update=values) for name, values in changes.items()})


def _marked(stages: Any) -> Any:
    """Return `freeze.stages` with a mark at each name, or number; what is no such value stays, for the message about it."""
    if isinstance(stages, list):
        return [f"{stage}{IF_THERE}" if isinstance(stage, str) else stage for stage in stages]
    return [f"{stages}{IF_THERE}"] if isinstance(stages, int | float) and not isinstance(stages, bool) and stages >= 0 else stages


def _is_marked(stages: str | float | Sequence[str]) -> bool:
    return isinstance(stages, Sequence) and any(isinstance(stage, str) and stage.endswith(IF_THERE) for stage in stages)
