"""Reads recipes: YAML file, its `base:` chain and command-line overrides -> a validated, frozen `Recipe`.

Free of torch, so that a mistake is reported at once. Every problem becomes one line `source: key: what is wrong`, where the
source is the file, or the command line, that set the key; all problems of a recipe are reported together in one `UserError`.
"""

import difflib
import fnmatch
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from hw1.config.recipe import MAY_CHANGE, Recipe, contradictions
from hw1.config.shipped import find_recipe, shipped_recipes
from hw1.config.strict_yaml import dump_yaml, is_clean, parse_yaml
from hw1.errors import UserError

COMMAND_LINE = "command line"
MAX_BYTES = 65_536  # base.yaml has 5,000; PyYAML reads this many in about a second
MAX_UNKNOWN = 50  # a file with more unknown keys is no recipe


class _Setting(NamedTuple):
    value: Any
    source: str


class _Problem(NamedTuple):
    source: str
    key: str  # "" = the source as a whole
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


Flat = dict[str, _Setting]  # by dotted key; a section itself has the value {}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Loads `path` with its `base:` chain, then applies `section.key=value` overrides (values are YAML).

    `path` may also name a recipe that comes with hw1 (`find_recipe`). Without `run.name` the run is named after the file. Raises
    `UserError` with every problem found, one line each.
    """
    path = find_recipe(path)
    flat, problems = _gather(path, overrides)
    problems += _take_unknown(flat)
    named_by_file = "run.name" not in flat or flat["run.name"].value is None
    if named_by_file:
        flat["run.name"] = _Setting(path.stem, str(path))
    recipe, found = _build(flat, {problem.key for problem in problems}, str(path))
    if named_by_file:
        hint = "the file name cannot name a run folder; set run.name=NAME"
        found = [problem._replace(message=hint) if problem.key == "run.name" else problem for problem in found]
    if problems + found:
        raise UserError(*map(str, problems + found))
    return recipe


def with_sources(problems: Sequence[str], path: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Puts before each problem that begins with a recipe key the file, or the command line, that set this key."""
    path = find_recipe(path)
    flat, _ = _gather(path, overrides)
    keys = [problem.partition(": ")[0] for problem in problems]
    sources = [flat[key].source if key in flat else str(path) for key in keys]
    return [f"{source}: {line}" if key in _KEYS else line for key, source, line in zip(keys, sources, problems, strict=True)]


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML that `load_recipe` reads back to an equal one."""
    return dump_yaml(recipe.model_dump())


def differences(old: Recipe, new: Recipe) -> tuple[list[str], list[str]]:
    """Lines `key: old -> new`: those that a run may not change when it is continued, and those that it may."""
    before, after = (dict(flatten(recipe.model_dump())) for recipe in (old, new))
    refused: list[str] = []
    allowed: list[str] = []
    for key, value in after.items():
        if before[key] != value:
            may = any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
            shown = (json.dumps(item, ensure_ascii=False) for item in (before[key], value))
            (allowed if may else refused).append(f"{key}: {' -> '.join(shown)}")
    return refused, allowed


def all_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every dotted key of the recipe, sections included, in order of declaration."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, f"{prefix}{name}.")
    return keys


_KEYS = all_keys()
_SECTIONS = {key.partition(".")[0] for key in _KEYS if "." in key}


# ------------------------------------------------------------------------------------ files and overrides -> settings


def _gather(path: Path, overrides: Sequence[str]) -> tuple[Flat, list[_Problem]]:
    chain, problems = _base_chain(path)
    flat: Flat = {key: _Setting(value, source) for source, content in chain for key, value in flatten(content)}
    for text in overrides:
        key, value, found = _parse_override(text)
        problems += found
        if not found:
            flat |= {dotted: _Setting(item, COMMAND_LINE) for dotted, item in flatten({key: value})}
    return flat, problems


def _base_chain(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[_Problem]]:
    """The files from the outermost base to `path` itself, each with its content less `base:`."""
    chain: list[tuple[str, dict[str, Any]]] = []
    if missing := _missing(path):
        return chain, [_Problem(str(path), "", missing)]
    problems: list[_Problem] = []
    seen: list[str] = []
    while True:
        source = str(path)
        content, found = _read_file(path)
        problems += found
        seen.append(os.path.realpath(path))
        base = content.pop("base", None)
        chain.insert(0, (source, content))
        if base is None:
            return chain, problems
        path = path.parent / str(base)
        wrong = None
        if not isinstance(base, str):
            wrong = f"must be a file name, got {_short(base)}"
        elif os.path.realpath(path) in seen:
            wrong = f"a cycle: {' -> '.join([*(name for name, _ in reversed(chain)), str(path)])}"
        elif missing := _missing(path):
            wrong = f"{path}: {missing}"
        if wrong:
            return chain, [*problems, _Problem(source, "base", wrong)]


def _missing(path: Path) -> str | None:
    try:
        if path.is_file():
            return None
        names = [p.name for p in path.parent.glob("*.yaml")]
        if path.name == str(path) and not path.suffix:
            names += shipped_recipes()
        near = difflib.get_close_matches(path.name, names, n=1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "no such recipe" + (f"; nearest: {path.with_name(near[0])}" if near else "")


def _read_file(path: Path) -> tuple[dict[str, Any], list[_Problem]]:
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return {}, [_Problem(source, "", f"larger than {MAX_BYTES} bytes, so no recipe")]
        content, found = parse_yaml(data.decode())
    except UnicodeDecodeError:
        return {}, [_Problem(source, "", "not UTF-8 text")]
    except OSError as error:
        return {}, [_Problem(source, "", f"cannot be read: {error.strerror}")]
    problems = [_Problem(source, key, message) for key, message in found]
    if isinstance(content, dict):
        return content, problems
    if not problems:
        kind = "empty" if content is None else f"a {type(content).__name__}"
        problems = [_Problem(source, "", f"must hold sections and keys, but is {kind}; say at least `base: FILE.yaml`")]
    return {}, problems


def _parse_override(text: str) -> tuple[str, Any, list[_Problem]]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", key) or not is_clean(text):
        return "", None, [_Problem(COMMAND_LINE, text if is_clean(text) else ascii(text), "an override reads section.key=value")]
    content, found = parse_yaml(value, key)
    return key, content, [_Problem(COMMAND_LINE, dotted, message) for dotted, message in found]


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{name}", {}  # so that an unknown but empty section is seen
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# ------------------------------------------------------------------------------------------------ settings -> recipe


def _take_unknown(flat: Flat) -> list[_Problem]:
    """Removes the keys that no recipe has and reports them; below an unknown key, or one that is no section, its own line says enough."""
    sources = {key: flat.pop(key).source for key in [key for key in flat if key not in _KEYS]}
    said = sources.keys() | {key for key, setting in flat.items() if setting.value == {} and key not in _SECTIONS}
    heads = [key for key in sources if key.rpartition(".")[0] not in said]
    problems = [_Problem(sources[key], key, f"unknown key; nearest: {_nearest(key)}") for key in heads[:MAX_UNKNOWN]]
    if len(heads) > MAX_UNKNOWN:
        problems.append(_Problem(sources[heads[-1]], "", f"{len(heads) - MAX_UNKNOWN} more unknown keys"))
    return problems


def _nearest(key: str) -> str:
    """The known key most like `key`: by its last part, rather in its own section than elsewhere; where equal, by its whole name."""
    while key.count(".") > 1:  # deeper than any key is
        key = key.rpartition(".")[0]
        if key in _KEYS:
            return key
    section, _, name = key.rpartition(".")

    def likeness(known: str) -> float:
        home, _, last = known.rpartition(".")
        return _similarity(name, last) + 0.25 * (home == section) + 0.1 * _similarity(key, known)

    return max(_KEYS, key=likeness)


def _similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _build(flat: Flat, faulty: Iterable[str], default_source: str) -> tuple[Recipe, list[_Problem]]:
    """Validates; a key at fault is reported and left at its default, so that the other checks still run.

    `faulty` are the keys with problems found before; what only their values could tell is not reported.
    """
    messages: dict[str, str] = {}
    try:
        recipe = Recipe.model_validate(_nest(flat))
    except ValidationError as error:
        messages = _describe(error)
        sound = {k: v for k, v in flat.items() if not any(k == bad or k.startswith(bad + ".") for bad in messages)}
        recipe = Recipe.model_validate(_nest(sound))
    messages = {key: message for key, message in messages.items() if key not in faulty}
    at_fault = {*faulty, *messages}
    if not at_fault & {"", "base"}:  # else the values of a whole file are missing
        for key, message in contradictions(recipe):
            if at_fault.isdisjoint((key, *re.findall(r"[a-z_]+\.[a-z_]+", message))):
                messages[key] = message
    return recipe, [_Problem(flat[key].source if key in flat else default_source, key, text) for key, text in messages.items()]


def _nest(flat: Flat) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, (value, _) in flat.items():
        section, _, name = key.rpartition(".")
        if not section:
            nested[key] = {} if value == {} else value
        elif isinstance(nested.setdefault(section, {}), dict):  # else its own type error says enough
            nested[section][name] = value
    return nested


def _describe(error: ValidationError) -> dict[str, str]:
    """The first message of pydantic for each dotted key, in this program's words."""
    words = {
        "model_type": "must be a section (keys with values)",
        "tuple_type": "must be a list",
        "missing": "has too few values",
        "too_long": "has too many values",
    }
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"]]
        while len(parts) > 1 and ".".join(parts) not in _KEYS:  # list positions are not keys
            parts.pop()
        message = words.get(item["type"]) or re.sub(r"^\w+ should", "must", item["msg"])
        found.setdefault(".".join(parts), f"{message}, got {_short(item['input'])}")
    return found


def _short(value: Any) -> str:
    if value == {}:
        return "a section"
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
