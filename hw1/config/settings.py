"""Read a recipe file, its `base:` chain and command-line overrides as settings by dotted key, each with its source."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from hw1.config.auto import AUTO
from hw1.config.recipe import Recipe
from hw1.config.shipped import shipped_recipes
from hw1.config.strict_yaml import is_clean, parse_yaml

COMMAND_LINE = "command line"
MAX_BYTES = 65_536  # base.yaml has 5,000; PyYAML reads this many in about a second


class Setting(NamedTuple):
    """A value, and the file or `COMMAND_LINE` that set it."""

    value: Any
    source: str


class Problem(NamedTuple):
    """What is wrong with a key, or with a whole source if `key` is empty."""

    source: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


Settings = dict[str, Setting]
"""By dotted key; a section itself has the value {}."""


def _string_keys() -> dict[str, bool]:
    """Map the keys whose value is free text to whether null is one of their values."""
    keys: dict[str, bool] = {}
    for section, field in Recipe.model_fields.items():
        fields = getattr(field.annotation, "model_fields", {})
        for name, item in fields.items():
            if get_origin(item.annotation) in (tuple, dict):
                continue
            kinds = get_args(item.annotation) or (item.annotation,)
            if any(kind is str or get_args(kind)[:1] == (str,) for kind in kinds):
                keys[f"{section}.{name}"] = NoneType in kinds
    return keys


def _mapping_keys() -> frozenset[str]:
    """Return the keys whose value is a mapping of any names, which are no keys of the recipe."""
    sections = {section: getattr(field.annotation, "model_fields", {}) for section, field in Recipe.model_fields.items()}
    return frozenset(
        f"{section}.{name}" for section, fields in sections.items() for name, item in fields.items() if get_origin(item.annotation) is dict
    )


STRING_KEYS = _string_keys()
MAPPING_KEYS = _mapping_keys()
NULLS = ("null", "~")


def read_settings(path: Path, overrides: Sequence[str]) -> tuple[Settings, list[Problem]]:
    """Read a recipe with its `base:` chain, then the overrides `section.key=value`; later settings replace earlier ones.

    Returns:
        The settings of all that could be read, and the problems of the rest.
    """
    chain, problems = _read_chain(path)
    settings: Settings = {}
    for source, content in chain:
        settings |= {key: Setting(_keep_number(settings, key, value), source) for key, value in flatten(content)}
    for text in overrides:
        key, value, new_problems = _parse_override(text)
        problems += new_problems
        if not new_problems:
            items = _within_open_key(settings, flatten({key: value}))
            settings |= {dotted: Setting(_keep_number(settings, dotted, item), COMMAND_LINE) for dotted, item in items}
    return settings, problems


def _keep_number(settings: Settings, key: str, value: Any) -> Any:
    """Return the value; `data.batch_size: auto` with the number that it replaces, which is the recipe's."""
    former = settings[key].value if key in settings else None
    if key != "data.batch_size" or value != AUTO:
        return value
    if isinstance(former, str) and former.startswith(AUTO):
        return former
    return f"{AUTO}:{former}" if type(former) is int else value


def _within_open_key(settings: Settings, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the items; one of a mapping (`optim.kwargs.eps`) as the whole mapping with it."""
    for key, value in items:
        outer, _, name = key.rpartition(".")
        if outer in MAPPING_KEYS:
            former = settings[outer].value if outer in settings else {}
            yield outer, {**(former if isinstance(former, Mapping) else {}), name: value}
        else:
            yield key, value


def without_dashes(argv: Sequence[str]) -> list[str]:
    """Return the command line with `--section.key=value`, as sweep agents write overrides, as `section.key=value`."""
    return [re.sub(r"^--(?=(\w+(\.\w+)+|seed)=)", "", argument) for argument in argv]


def split_overrides(items: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the files and the overrides `section.key=value` of a command line; a file may have an equals sign in its name."""
    files: list[str] = []
    overrides: list[str] = []
    for item in items:
        (overrides if "=" in item and not os.path.isfile(item) else files).append(item)
    return files, overrides


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings in order; each section comes before its keys, with the value {}.

    The mapping of a key such as `model.kwargs` is its value.
    """
    for name, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in MAPPING_KEYS:
            yield f"{prefix}{name}", {}  # so that an unknown but empty section is reported
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def shorten(value: Any) -> str:
    """Return a value as a message quotes it, in at most 80 characters."""
    if value == {}:
        return "a section"
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_chain(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[Problem]]:
    """Return the files from the outermost base to `path` itself, each with its content without `base:`."""
    chain: list[tuple[str, dict[str, Any]]] = []
    if reason := _why_missing(path):
        return chain, [Problem(str(path), "", reason)]
    problems: list[Problem] = []
    visited: list[str] = []
    while True:
        source = str(path)
        content, file_problems = _read_file(path)
        problems += file_problems
        visited.append(os.path.realpath(path))
        base = content.pop("base", None)
        chain.insert(0, (source, content))
        if base is None:
            return chain, problems
        path = path.parent / str(base)
        message = None
        if not isinstance(base, str):
            message = f"must be a file name, got {shorten(base)}"
        elif os.path.realpath(path) in visited:
            message = f"a cycle: {' -> '.join([*(name for name, _ in reversed(chain)), str(path)])}"
        elif reason := _why_missing(path):
            message = f"{path}: {reason}"
        if message:
            return chain, [*problems, Problem(source, "base", message)]


def _why_missing(path: Path) -> str | None:
    try:
        if path.is_file():
            return None
        names = [other.name for other in path.parent.glob("*.yaml")]
        if path.name == str(path) and not path.suffix:
            names += shipped_recipes()
        nearest = difflib.get_close_matches(path.name, names, n=1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "no such recipe" + (f"; nearest: {path.with_name(nearest[0])}" if nearest else "")


def _read_file(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return {}, [Problem(source, "", f"larger than {MAX_BYTES} bytes, so no recipe")]
        content, yaml_problems = parse_yaml(data.decode())
    except UnicodeDecodeError:
        return {}, [Problem(source, "", "not UTF-8 text")]
    except OSError as error:
        return {}, [Problem(source, "", f"cannot be read: {error.strerror}")]
    problems = [Problem(source, key, message) for key, message in yaml_problems]
    if isinstance(content, dict):
        return content, problems
    if not problems:
        kind = "empty" if content is None else f"a {type(content).__name__}"
        problems = [Problem(source, "", f"must hold sections and keys, but is {kind}; say at least `base: FILE.yaml`")]
    return {}, problems


def _parse_override(text: str) -> tuple[str, Any, list[Problem]]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", key) or not is_clean(text):
        return "", None, [Problem(COMMAND_LINE, text if is_clean(text) else ascii(text), "an override reads section.key=value")]
    if not value.strip():
        return "", None, [Problem(COMMAND_LINE, key, f"has no value; {key}=null is none")]
    if key in STRING_KEYS and value[0] not in "\"'":
        return key, (None if value in NULLS and STRING_KEYS[key] else value), []
    content, yaml_problems = parse_yaml(value, key)
    return key, content, [Problem(COMMAND_LINE, dotted, message) for dotted, message in yaml_problems]
