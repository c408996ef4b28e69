"""The JSON Schema of a step of `aug.transforms`: names and arguments of albumentations' transforms, for editors."""

import json
from typing import Any

from hw1.data.augment.named_transforms import NEEDS_CODE, POLICY, arguments_of, is_for_volumes, transform_classes

TIMM_POLICIES = r"^(rand|augmix|originalr?|v0r?|3a)(-.*)?$"


def step_schema() -> dict[str, Any]:
    """Return the schema; compositions refer to it as `#/$defs/TransformStep`."""
    classes = {name: kind for name, kind in transform_classes().items() if name not in NEEDS_CODE and not is_for_volumes(name)}
    sections = {name: _section(kind) for name, kind in classes.items()}
    return {
        "anyOf": [
            {"enum": [POLICY, *classes]},
            {"type": "string", "pattern": TIMM_POLICIES},
            {"type": "object", "properties": sections, "additionalProperties": False, "minProperties": 1, "maxProperties": 1},
        ]
    }


def _section(kind: type) -> dict[str, Any]:
    arguments = {}
    for name, item in arguments_of(kind).items():
        arguments[name] = {"type": "array", "items": {"$ref": "#/$defs/TransformStep"}} if name == "transforms" else {}
        if _is_json(item.default) and item.default is not None:
            arguments[name]["default"] = item.default
    section = {"type": ["object", "null"], "properties": arguments, "additionalProperties": False}
    if "transforms" in arguments:
        return {"anyOf": [section, arguments["transforms"]]}
    return section


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
