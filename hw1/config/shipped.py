"""The recipes that come with hw1, and what the RECIPE of a command means."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
RULE = "a file or, where there is none, a recipe that comes with hw1: its name (debug) or its path (recipes/debug.yaml)"
"""`find_recipe` as the commands' help says it."""


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes: in the package where that is installed, beside it in a checkout."""
    inside = PACKAGE / "recipes"
    return inside if inside.is_dir() else PACKAGE.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name, which is the file's without `.yaml`; no two have one name. Those of ablations come last."""
    return {path.stem: path for path in sorted(recipes_folder().rglob("*.yaml"), key=lambda path: (len(path.parts), path.name))}


def find_recipe(recipe: str | Path) -> Path:
    """Return the file that is meant by a command's RECIPE.

    Args:
        recipe: A file; or, where there is no such file, a shipped recipe's name, or its path in a checkout. A name ending in `.yaml` is
            never a shipped recipe's, so that a file that was left behind is missed and not replaced.

    Returns:
        The file; one that does not exist where nothing is meant.
    """
    path = Path(recipe)
    if os.path.isfile(path) or path.is_absolute():
        return path
    folder, *inside = path.parts or (".",)
    found = recipes_folder().joinpath(*inside) if folder == "recipes" and inside else shipped_recipes().get(str(path))
    return found if found is not None and os.path.isfile(found) else path
