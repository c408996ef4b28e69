"""The JSON Schema of recipes, from which editors complete keys."""

import ast
import inspect
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from hw1.config import recipe
from hw1.config.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe file: the recipe's keys, all optional, and `base`."""
    schema = Recipe.model_json_schema()
    for name, section in {**schema["$defs"], Recipe.__name__: schema}.items():
        for key, text in _descriptions(getattr(recipe, name)).items():
            section["properties"][key] = dict(sorted({**section["properties"][key], "description": text}.items()))
    schema["properties"] = {
        "base": {"type": "string", "description": "Recipe file that this one changes, relative to it."},
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a section.

    pydantic would take it (`use_attribute_docstrings`), but whenever the section is imported, which doubles the time that a command needs
    to answer.
    """
    [definition] = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found
