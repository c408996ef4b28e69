"""Parse and dump the YAML of recipes: the core scalars of YAML 1.2 in mappings and lists, nothing else.

`1e-4` is a number and `off` a string. Tags, aliases (with which ten lines can stand for 10^9 values), deep nesting, duplicate keys and
control characters are refused.
"""

import re
import unicodedata
from typing import Any

import yaml

MAX_DEPTH = 20  # a recipe needs 3
Problems = list[tuple[str, str]]
"""Of (dotted key, what is wrong)."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str | None, list[Any]] = {}  # noqa: RUF012 - PyYAML declares it
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML has no types for it
        reason = None
        if isinstance(event, yaml.AliasEvent):
            reason = "aliases (*name) are not allowed"
        elif event.tag is not None:
            reason = f"tags ({event.tag}) are not allowed"
        elif self.depth == MAX_DEPTH:
            reason = "nested too deeply"
        if reason:
            raise yaml.composer.ComposerError(None, None, reason, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers  # quotes exactly the strings that would be read as another type


for _tag, _pattern in (
    ("null", r"^(?:~|null|Null|NULL|)$"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$"),
    ("int", r"^[-+]?[0-9]{1,300}$"),  # a longer one is read as a float, which is infinite
    ("float", r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), None)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True))


def parse_yaml(text: str, key: str = "", *, dotted_keys: bool = False) -> tuple[Any, Problems]:
    """Parse a file, or the value of one key.

    Args:
        text: YAML.
        key: Dotted key that the value belongs to; empty for a file.
        dotted_keys: Whether a key may have dots, as `optim.lr`; else they are refused, as a recipe's sections are mappings.

    Returns:
        The value, None if it cannot be parsed, and what is wrong with it.
    """
    problems: Problems = []
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else _value(node, key, problems, dotted_keys)), problems
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark and not key else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF"
        where, reason = "", "a character out of range"
    return None, [(key, f"not valid YAML{where}: {' '.join(reason.split())}")]


def dump_yaml(content: dict[str, Any]) -> str:
    """Return text that `parse_yaml` reads back to the same values; tuples become lists on one line."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)


def is_clean(text: str) -> bool:
    """Return whether text is free of control characters, line ends and lone surrogates, which no name, path or message may hold."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def _value(node: yaml.Node, key: str, problems: Problems, dotted_keys: bool) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, key, problems, dotted_keys) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, problems, dotted_keys)
    text = str(node.value)
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    if is_clean(text):
        return text
    problems.append((key, f"control characters are not allowed, got {text!a}"))
    return None


def _mapping(node: yaml.MappingNode, key: str, problems: Problems, dotted_keys: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name_node, item in node.value:
        line = f"line {name_node.start_mark.line + 1}"
        name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
        dotted = f"{key}.{name}" if key else name
        section, dot, rest = name.partition(".")
        if not all(name.split(".")) or not is_clean(name):
            problems.append((key, f"{line}: a key must be a word"))
        elif dot and not dotted_keys:
            problems.append((dotted, f"keys have no dots here; write {section}: {{{rest}: ...}}"))
        elif name in content:
            problems.append((dotted, f"stands twice, again in {line}"))
        else:
            content[name] = _value(item, dotted, problems, dotted_keys)
    return content
