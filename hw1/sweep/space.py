"""The space of a sweep: which keys of a recipe vary and over which values, read from SPACE.yaml and checked through the recipe.

optim.lr: {low: 1e-5, high: 1e-2, log: true}
model.drop_rate: [0.0, 0.2, 0.5]
"""

import difflib
import fnmatch
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.config.settings import COMMAND_LINE, MAPPING_KEYS, MAX_BYTES, shorten
from hw1.config.strict_yaml import parse_yaml
from hw1.errors import UserError

FIXED = (
    "seed", "base", "run.*", "log.*", "checkpoint.*", "train.epochs", "train.hours", "train.best_by", "train.device",
    "data.root", "data.dataset", "data.*_split", "data.*_key", "data.*_column", "data.labels", "data.fold", "data.val_fraction",
    "data.generate", "data.download", "data.max_bad", "data.bad_images", "data.num_workers", "data.cache", "data.cache_dir",
)  # fmt: skip
"""Keys that are the same in all trials: else these would not be compared by one number, of the same images, after as many epochs."""
WORDS = {"low", "high", "log", "step"}
Values = dict[str, Any]
"""A value for each key of a space."""


@dataclass(frozen=True)
class Choice:
    """A list of values, of which each is as likely at first."""

    options: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before the first trial: all of them."""
        return self.options

    @property
    def num_values(self) -> float:
        """Number of values."""
        return len(self.options)

    def __str__(self) -> str:
        """Return them as in the file."""
        return json.dumps(self.options)


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`; whole ones where `is_int`, steps of `step` where that is set."""

    low: float
    high: float
    log: bool
    step: float | None
    is_int: bool

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before the first trial."""
        return self.low, self.high

    @property
    def num_values(self) -> float:
        """Number of values, infinite without steps."""
        step = self.step or (1 if self.is_int else None)
        return math.inf if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.low:g} to {self.high:g}" + (", log" if self.log else "") + (f", steps of {self.step:g}" if self.step else "")


Space = Mapping[str, Choice | Range]
"""By dotted key."""


def read_space(path: str, recipe_path: str, overrides: Sequence[str]) -> Space:
    """Read SPACE.yaml and check each of its values in the recipe, with the other keys at the recipe's own values.

    Args:
        path: The file.
        recipe_path: The recipe.
        overrides: `section.key=value`, for all trials.

    Raises:
        UserError: With every problem, one line each.
    """
    content = _read_file(path)
    typed = {text.partition("=")[0].strip() for text in overrides}
    space: dict[str, Choice | Range] = {}
    problems: list[str] = []
    for key, value in content.items():
        try:
            if any(fnmatch.fnmatchcase(key, pattern) for pattern in FIXED):
                raise UserError("is the same in all trials; set it in the recipe or on the command line")
            if key in typed:
                raise UserError("is set on the command line too; leave it out in one place")
            space[key] = _parse_values(key, value)
            for end in space[key].ends:
                _check_value(key, end, recipe_path, overrides)
        except UserError as error:
            problems += [f"{path}: {key}: {problem}" for problem in error.problems]
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return space


def num_combinations(space: Space) -> float:
    """Return how many different trials there are, infinite where a range has no steps."""
    return math.prod(values.num_values for values in space.values())


def as_overrides(values: Values) -> list[str]:
    """Return `section.key=value` for each value of a trial."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def describe_values(values: Values) -> str:
    """Return the values of a trial in one line, numbers with four digits."""
    return "  ".join(f"{key}={format_value(value)}" for key, value in values.items())


def format_value(value: Any) -> str:
    """Format one value; numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES).decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; it lists keys to vary, as `optim.lr: {{low: 1e-5, high: 1e-2, log: true}}`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    content, problems = parse_yaml(text, dotted_keys=True)
    if problems:
        raise UserError(*(": ".join(filter(None, (path, key, message))) for key, message in problems))
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: must hold keys of the recipe with their values, as `optim.lr: {{low: 1e-5, high: 1e-2, log: true}}`")
    return content


def _parse_values(key: str, value: Any) -> Choice | Range:
    if isinstance(value, list):
        texts = [json.dumps(option) for option in value]
        if len(set(texts)) < 2 or len(set(texts)) < len(texts):
            raise UserError(f"must list two different values or more, got {shorten(value)}")
        return Choice(tuple(value))
    if not isinstance(value, dict):
        raise UserError(f"must be a list of values or {{low: A, high: B}}, got {shorten(value)}; one value belongs into the recipe")
    unknown = [word for word in value if word not in WORDS]
    if unknown and (key in MAPPING_KEYS or key in Recipe.model_fields):
        raise UserError(f"sections have no place here; write {key}.{unknown[0]}: ...")
    if unknown:
        [nearest] = difflib.get_close_matches(unknown[0], sorted(WORDS), n=1, cutoff=0.0)
        raise UserError(f"{unknown[0]}: unknown; nearest: {nearest}")
    return _parse_range(key, value)


def _parse_range(key: str, value: dict[str, Any]) -> Range:
    low: Any = value.get("low")
    high: Any = value.get("high")
    log, step = value.get("log", False), value.get("step")
    types = _number_types()
    if key in types and not types[key]:
        raise UserError("takes no number, so it has no range; list its values")
    is_int = types.get(key) is int
    for word, number in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if not _is_number(number):
            raise UserError(f"{word}: must be a number, got {shorten(number)}")
        if is_int and number != int(number):
            raise UserError(f"{word}: must be a whole number, got {number}")
    if not isinstance(log, bool):
        raise UserError(f"log: must be true or false, got {shorten(log)}")
    if not low < high:
        raise UserError(f"low must be less than high, got {low} and {high}")
    if log and low <= 0:
        raise UserError(f"low must be more than 0 with log, got {low}")
    if step is not None and (log or step <= 0 or step > high - low):
        raise UserError(f"step must be more than 0, at most high - low, and without log, got {step}")
    kind = int if is_int else float
    return Range(kind(low), kind(high), log, None if step is None else kind(step), is_int)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number_types() -> dict[str, type | None]:
    """Map every key of the recipe to the kind of number it takes: float, int, or None for neither."""
    types: dict[str, type | None] = {}
    for section, field in Recipe.model_fields.items():
        for name, item in getattr(field.annotation, "model_fields", {}).items():
            kinds = set(_kinds(item.annotation))
            types[f"{section}.{name}"] = float if float in kinds else int if int in kinds else None
    return types


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have, without those of the items of lists."""
    if getattr(annotation, "__origin__", None) in (tuple, list, dict):
        return
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def _check_value(key: str, value: Any, recipe_path: str, overrides: Sequence[str]) -> None:
    """Load the recipe with one value.

    Raises:
        UserError: The recipe does not take it; each line says what is wrong, without file and key.
    """
    try:
        load_recipe(recipe_path, [*overrides, *as_overrides({key: value})])
    except UserError as error:
        own = f"{COMMAND_LINE}: {key}: "
        raise UserError(
            *(
                problem.removeprefix(own) if problem.startswith(own) else f"{format_value(value)} does not go with the rest: {problem}"
                for problem in error.problems
            )
        ) from None
