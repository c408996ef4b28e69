"""Reads recipes: YAML file, its `base:` chain and command-line overrides -> a validated, frozen `Recipe`.

The only reader and writer of YAML, and free of torch, so that a mistake is reported at once. Every problem becomes one
line `source: key: what is wrong`, where the source is the file, or the command line, that set the key; all problems of
a recipe are reported together in one `UserError`.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hw1.config import MAY_CHANGE, Recipe, contradictions
from hw1.errors import UserError

COMMAND_LINE = "command line"
MAX_BYTES = 1_000_000
Flat = dict[str, tuple[Any, str]]  # dotted key -> (value, the source that set it)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core scalars (`1e-4` is a number, `off` a word), no aliases, no duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]{1,300}$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [c if c != "\0" else "" for c in _first])
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark and source != COMMAND_LINE else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise UserError(f"{source}{where}: not valid YAML: {reason}") from None
    except (RecursionError, ValueError, OverflowError):
        raise UserError(f"{source}: not valid YAML: nested too deeply, or a number out of range") from None


def _read_file(path: Path, asked_by: str) -> dict[Any, Any]:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        raise UserError(f"{asked_by}: no such recipe: {path}" + (f"; nearest: {path.with_name(near[0])}" if near else ""))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES} bytes; not a recipe")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    content = _parse_yaml(text, str(path))
    if content is None:
        raise UserError(f"{path}: empty; say at least `base: base.yaml`")
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of sections, got a {type(content).__name__}")
    return content


def _base_chain(path: Path) -> list[tuple[Path, dict[Any, Any]]]:
    """The files from the outermost base to `path` itself, each with its content less `base:`."""
    chain: list[tuple[Path, dict[Any, Any]]] = []
    seen: list[Path] = []
    asked_by = "recipe"
    while True:
        if path.resolve() in seen:
            raise UserError(f"{chain[0][0]}: base: a cycle: {' -> '.join(p.name for p in [*seen[::-1], path])}")
        seen.insert(0, path.resolve())
        content = _read_file(path, asked_by)
        base = content.pop("base", None)
        chain.insert(0, (path, content))
        if base is None:
            return chain
        if not isinstance(base, str):
            raise UserError(f"{path}: base: must be a file name, got {base!r}")
        asked_by = f"{path}: base"
        path = path.parent / base


def _flatten(content: Mapping[Any, Any], source: str, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{key}", {}, source  # so that an unknown but empty section is seen
            yield from _flatten(value, source, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, source


def _parse_override(text: str) -> tuple[str, Any, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{COMMAND_LINE}: {text}: an override reads section.key=value")
    return key.strip(), _parse_yaml(value, COMMAND_LINE), COMMAND_LINE


def all_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every dotted key of the recipe, sections included, in order of declaration."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _nearest(key: str) -> str:
    """The known key most like `key`: in its own section, else by its last part in any section, else by its whole name."""
    section, _, name = key.rpartition(".")
    sections = [k for k in all_keys() if "." not in k]
    if not section:
        return difflib.get_close_matches(name, sections, n=1, cutoff=0.0)[0]
    leaves = [k for k in all_keys() if "." in k]
    own = {k.rpartition(".")[2]: k for k in leaves if k.startswith(section + ".")}
    elsewhere = {k.rpartition(".")[2]: k for k in reversed(leaves)}
    for candidates, cutoff in ((own, 0.6), (elsewhere, 0.8), (own, 0.0), (elsewhere, 0.0)):
        near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=cutoff)
        if near:
            return candidates[near[0]]
    return sections[0]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _unknown_keys(flat: Flat) -> list[str]:
    known = set(all_keys())
    problems = []
    for key, (_, source) in list(flat.items()):
        if key not in known:
            parent = key.rpartition(".")[0]
            if not parent or parent in known:  # below an unknown section its own line says enough
                problems.append(f"{source}: {key}: unknown key; nearest: {_nearest(key)}")
            del flat[key]
    return problems


def _nest(flat: Flat) -> dict[str, Any]:
    sections = {key for key in all_keys() if any(other.startswith(key + ".") for other in all_keys())}
    nested: dict[str, Any] = {}
    for key, (value, _) in flat.items():
        section, _, name = key.rpartition(".")
        if section:
            if isinstance(nested.setdefault(section, {}), dict):
                nested[section][name] = value
        elif not (key in sections and value == {}):
            nested[key] = value
    return nested


def _build(flat: Flat) -> tuple[Recipe, list[str]]:
    """Validates; a key at fault is reported and left at its default, so that the other checks still run."""
    problems: list[str] = []
    while True:
        try:
            recipe = Recipe.model_validate(_nest(flat))
            break
        except ValidationError as error:
            for key, message in _describe(error).items():
                source = flat[key][1] if key in flat else "recipe"
                problems.append(f"{source}: {key}: {message}")
                for other in [k for k in flat if k == key or k.startswith(key + ".")]:
                    del flat[other]
    named = {problem.split(": ")[1] for problem in problems}
    for key, message in contradictions(recipe):
        if key not in named:
            problems.append(f"{flat[key][1] if key in flat else 'recipe'}: {key}: {message}")
    return recipe, problems


def _describe(error: ValidationError) -> dict[str, str]:
    """The first message of pydantic for each dotted key."""
    found: dict[str, str] = {}
    known = set(all_keys())
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"]]
        while len(parts) > 1 and ".".join(parts) not in known:  # list positions and union members are not keys
            parts.pop()
        message = item["msg"].replace("Input should", "must")
        if item["type"] == "model_type":
            message = "must be a section (a mapping of keys)"
        found.setdefault(".".join(parts), f"{message[0].lower()}{message[1:]}, got {_short(item['input'])}")
    return found


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Loads `path` with its `base:` chain, then applies `section.key=value` overrides (values are YAML).

    Raises `UserError` with every problem found, one line each.
    """
    path = Path(path)
    flat: Flat = {}
    problems: list[str] = []
    for file, content in _base_chain(path):
        for key, value, source in _flatten(content, str(file)):
            flat[key] = (value, source)
    for text in overrides:
        try:
            key, value, source = _parse_override(text)
            for dotted, item, _ in _flatten({key: value}, source):
                flat[dotted] = (item, source)
        except UserError as error:
            problems += error.problems
    problems += _unknown_keys(flat)
    recipe, found = _build(flat)
    if problems + found:
        raise UserError(*problems, *found)
    if recipe.run.name is None:
        named = _build({**flat, "run.name": (path.stem, str(path))})
        if named[1]:
            raise UserError(f"{path}: run.name: the file name cannot name a run folder; set run.name=NAME")
        recipe = named[0]
    return recipe


def with_sources(problems: Sequence[str], path: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Puts before each problem that begins with a recipe key the file, or the command line, that set this key."""
    sources = {key: str(file) for file, content in _base_chain(Path(path)) for key, _, _ in _flatten(content, "")}
    sources |= {text.partition("=")[0].strip(): COMMAND_LINE for text in overrides}
    known = set(all_keys())
    keys = [problem.partition(": ")[0] for problem in problems]
    return [f"{sources.get(key, path)}: {line}" if key in known else line for key, line in zip(keys, problems, strict=True)]


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML that `load_recipe` reads back to an equal one."""

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True))
    return yaml.dump(recipe.model_dump(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=140)


def differences(old: Recipe, new: Recipe) -> tuple[list[str], list[str]]:
    """Lines `key: old -> new`: those that a run may not change when it is continued, and those that it may."""
    before, after = ({k: v for k, v, _ in _flatten(r.model_dump(), "") if not isinstance(v, dict)} for r in (old, new))
    refused: list[str] = []
    allowed: list[str] = []
    for key, value in after.items():
        if before[key] != value:
            may = any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
            (allowed if may else refused).append(f"{key}: {before[key]!r} -> {value!r}")
    return refused, allowed
