"""Load recipes: settings of files and overrides -> a validated, frozen `Recipe`.

Imports no torch, so that a mistake is reported at once. Every problem becomes one line `source: key: what is wrong`, where the source is
the file, or the command line, that set the key; all problems of a recipe are reported together in one `UserError`.
"""

import difflib
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hw1.config.contradictions import contradictions
from hw1.config.open_values import is_open, leave_open
from hw1.config.recipe import MAY_CHANGE, Recipe
from hw1.config.settings import Problem, Setting, Settings, flatten, read_settings, shorten
from hw1.config.shipped import find_recipe
from hw1.config.strict_yaml import dump_yaml
from hw1.errors import UserError

NEAR, NEAR_WHOLE = 0.6, 0.75  # least similarity (difflib) of a key that is named as the nearest, by last part and as a whole
SYNONYMS = {
    "momentum": "optim.betas", "learning_rate": "optim.lr", "wd": "optim.weight_decay", "image_size": "aug.size", "img_size": "aug.size",
    "imgsz": "aug.size", "dropout": "model.drop_rate", "workers": "data.num_workers", "num_epochs": "train.epochs",
    "patience": "sched.patience",
    "ema": "train.ema_decay", "precision": "train.amp", "data_dir": "data.root", "output_dir": "run.dir",
}  # fmt: skip
"""What other programs call a key, by its last part."""
MAX_UNKNOWN = 50  # unknown keys that are reported one by one
PYDANTIC_MESSAGES = {
    "model_type": "must be a section (keys with values)",
    "tuple_type": "must be a list",
    "missing": "has too few values",
    "too_long": "has too many values",
}


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, of_run: bool = False, tell: Callable[[str], None] | None = None
) -> Recipe:
    """Load a recipe with its `base:` chain, then apply overrides.

    Args:
        path: YAML file, or the name of a recipe that comes with hw1 (`find_recipe`). Without `run.name` the run is named after it.
        overrides: `section.key=value`, where values are YAML.
        of_run: Whether it is a run's config.yaml, which leaves nothing open (`hw1.config.open_values`).
        tell: Is given a line about keys that have no effect, as they were written for another model.

    Raises:
        UserError: With every problem, one line each.
    """
    path = find_recipe(path)
    settings, problems = read_settings(path, overrides)
    problems += _pop_unknown(settings)
    if of_run:
        settings = {key: setting for key, setting in settings.items() if not is_open(key, setting.value)}
    else:
        lines = leave_open(settings)
        if tell is not None:
            for line in lines:
                tell(line)
    is_named_by_file = "run.name" not in settings or settings["run.name"].value is None
    if is_named_by_file:
        settings["run.name"] = Setting(path.stem, str(path))
    recipe, new_problems = _validate(settings, {problem.key for problem in problems}, str(path))
    if is_named_by_file:
        hint = "the file name cannot name a run folder; set run.name=NAME"
        new_problems = [problem._replace(message=hint) if problem.key == "run.name" else problem for problem in new_problems]
    problems += new_problems
    if problems:
        raise UserError(*map(str, problems))
    return recipe


def with_sources(problems: Sequence[str], path: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Prepend to each problem that begins with a recipe key the file, or the command line, that set this key."""
    path = find_recipe(path)
    settings, _ = read_settings(path, overrides)
    keys = [problem.partition(": ")[0] for problem in problems]
    sources = [settings[key].source if key in settings else str(path) for key in keys]
    return [f"{source}: {line}" if key in _KEYS else line for key, source, line in zip(keys, sources, problems, strict=True)]


def dump_recipe(recipe: Recipe) -> str:
    """Return the whole recipe as YAML that `load_recipe` reads back to an equal one."""
    return dump_yaml(recipe.model_dump())


def differences(old: Recipe, new: Recipe) -> tuple[list[str], list[str]]:
    """Compare two recipes.

    Returns:
        Lines `key: old -> new`: those that a run may not change when it is continued, and those that it may. What the new one leaves open
        is no difference.
    """
    before, after = (dict(flatten(recipe.model_dump())) for recipe in (old, new))
    refused: list[str] = []
    allowed: list[str] = []
    for key, value in after.items():
        if before[key] != value and not is_open(key, value):
            may_change = any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
            values = (json.dumps(item, ensure_ascii=False) for item in (before[key], value))
            (allowed if may_change else refused).append(f"{key}: {' -> '.join(values)}")
    return refused, allowed


def all_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Return every dotted key of the recipe, sections included, in order of declaration."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, f"{prefix}{name}.")
    return keys


_KEYS = all_keys()
_SECTIONS = {key.partition(".")[0] for key in _KEYS if "." in key}


def _pop_unknown(settings: Settings) -> list[Problem]:
    """Remove the keys that no recipe has and report them.

    Keys below an unknown key, or below a key that is no section, are not reported: the line about that key says enough.
    """
    sources = {key: settings.pop(key).source for key in [key for key in settings if key not in _KEYS]}
    reported = sources.keys() | {key for key, setting in settings.items() if setting.value == {} and key not in _SECTIONS}
    keys = [key for key in sources if key.rpartition(".")[0] not in reported]
    problems = [Problem(sources[key], key, _describe_unknown(key)) for key in keys[:MAX_UNKNOWN]]
    if len(keys) > MAX_UNKNOWN:
        problems.append(Problem(sources[keys[-1]], "", f"{len(keys) - MAX_UNKNOWN} more unknown keys"))
    return problems


def _describe_unknown(key: str) -> str:
    """Name the nearest key only where it is near in spelling or meaning; another would mislead."""
    section, name = key.split(".")[0], ".".join(key.split(".")[1:2]) or key
    if name in SYNONYMS:
        return f"unknown key; nearest: {SYNONYMS[name]}"
    nearest = _nearest_key(key)
    short = key if "." not in key else f"{section}.{name}"
    is_near = short == nearest or _ratio(name, nearest.rpartition(".")[2]) >= NEAR or _ratio(short, nearest) >= NEAR_WHOLE
    return (
        f"unknown key; nearest: {nearest}" if is_near else "unknown key, and nothing like it is supported; recipes/base.yaml lists all keys"
    )


def _nearest_key(key: str) -> str:
    """Return the known key whose last part is most similar, with a preference for the same section, then for the whole name."""
    while key.count(".") > 1:  # deeper than any key is
        key = key.rpartition(".")[0]
        if key in _KEYS:
            return key
    section, _, name = key.rpartition(".")

    def similarity(known: str) -> float:
        known_section, _, known_name = known.rpartition(".")
        return _ratio(name, known_name) + 0.25 * (known_section == section) + 0.1 * _ratio(key, known)

    return max(_KEYS, key=similarity)


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _validate(settings: Settings, wrong_keys: Iterable[str], default_source: str) -> tuple[Recipe, list[Problem]]:
    """Validate the settings. A wrong key is reported and left at its default, so that the other checks still run.

    Args:
        settings: By known keys.
        wrong_keys: Keys with problems reported before; what depends on their values is not reported.
        default_source: Of keys that are set nowhere.
    """
    messages: dict[str, str] = {}
    try:
        recipe = Recipe.model_validate(_nest(settings))
    except ValidationError as error:
        messages = _describe(error)
        valid = {k: v for k, v in settings.items() if not any(k == wrong or k.startswith(wrong + ".") for wrong in messages)}
        recipe = Recipe.model_validate(_nest(valid))
    messages = {key: message for key, message in messages.items() if key not in wrong_keys}
    all_wrong = {*wrong_keys, *messages}
    if not all_wrong & {"", "base"}:  # else the values of a whole file are missing
        for key, message in contradictions(recipe):
            if all_wrong.isdisjoint((key, *re.findall(r"[a-z_]+\.[a-z_]+", message))):
                messages[key] = message
    sources = {key: settings[key].source if key in settings else default_source for key in messages}
    return recipe, [Problem(sources[key], key, message) for key, message in messages.items()]


def _nest(settings: Settings) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, (value, _) in settings.items():
        section, _, name = key.rpartition(".")
        if not section:
            nested[key] = {} if value == {} else value
        elif isinstance(nested.setdefault(section, {}), dict):  # else the error about the section's type says enough
            nested[section][name] = value
    return nested


def _describe(error: ValidationError) -> dict[str, str]:
    """Return pydantic's first message for each dotted key, reworded."""
    messages: dict[str, str] = {}
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"]]
        while len(parts) > 1 and ".".join(parts) not in _KEYS:  # positions in lists are not keys
            parts.pop()
        message = PYDANTIC_MESSAGES.get(item["type"]) or re.sub(r"^\w+ should", "must", item["msg"])
        messages.setdefault(".".join(parts), f"{message}, got {shorten(item['input'])}")
    return messages
