"""Recipes written as text, for the tests of recipes: what they load as, and the problems they raise."""

from pathlib import Path
from typing import Any

import pytest

from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.errors import UserError


def load(text: str | bytes, *overrides: str) -> Recipe:
    Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe("x.yaml", overrides)


def problems(text: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(text, *overrides)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def value(recipe: Recipe, key: str) -> Any:
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)
