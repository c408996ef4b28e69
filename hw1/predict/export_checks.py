"""Check what a file that `hw1 export` wrote says of itself. No torch."""

from typing import Any, cast

from hw1.config.recipe import AugConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.utils.text import on_one_line

FOREIGN = "not written by hw1 export, or changed since"


def parse_rule(content: dict[str, Any]) -> EvalRule:
    """Return the rule by which an image becomes a square, as read from a file.

    Raises:
        ValueError: It is none that `hw1 export` writes.
        TypeError: Likewise.
    """
    rule = EvalRule(**content)
    AugConfig(size=rule.size, fit=rule.fit, crop_pct=rule.crop_pct, interpolation=cast("Any", rule.interpolation))
    if len(rule.fill) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in rule.fill):
        raise ValueError(f"fill {rule.fill}")
    return rule._replace(fill=tuple(rule.fill))


def check_names(names: object) -> tuple[str, ...]:
    """Return the names of the classes, as read from a file; raise `ValueError` if they are no list of different names."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names) or len(set(names)) < max(len(names), 2):
        raise ValueError("the class names are no list of different names")
    return tuple(names)


def check_descriptions(descriptions: object) -> dict[str, str]:
    """Return what people call the classes, as read from a file; raise `ValueError` if it is no text."""
    if not isinstance(descriptions, dict) or not all(isinstance(text, str) for text in descriptions.values()):
        raise ValueError("the descriptions of the classes are no text")
    return {name: on_one_line(text) for name, text in descriptions.items()}
