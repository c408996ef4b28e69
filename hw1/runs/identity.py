"""Which run a checkpoint belongs to."""

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase

from hw1.config.recipe import MAY_CHANGE, AugConfig, Recipe
from hw1.config.settings import flatten
from hw1.errors import UserError


def identify(recipe: Recipe, fingerprint: str) -> dict[str, str]:
    """Return what tells this run from others.

    Args:
        recipe: The recipe. Keys that may change when a run is continued do not count, nor keys at their default, so that a key that a
            later version adds changes no identity.
        fingerprint: Digest of the data.

    Returns:
        `recipe` and `data`, a digest each.
    """
    defaults = dict(flatten(Recipe(aug=AugConfig()).model_dump(mode="json")))
    fixed = {
        key: value
        for key, value in flatten(recipe.model_dump(mode="json"))
        if value != defaults[key] and not any(fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
    }
    return {"recipe": hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16], "data": fingerprint[:16]}


def require_identity(path: object, found: Mapping[str, str] | None, recipe: Recipe, fingerprint: str | None) -> None:
    """Raise `UserError` where a checkpoint is that of another run.

    Args:
        path: The file.
        found: Its identity; None in files of version 0.1, which pass.
        recipe: The run's recipe.
        fingerprint: Digest of the run's data; None where it is not known.
    """
    if found is None:
        return
    own = identify(recipe, fingerprint or "")
    if found.get("recipe") != own["recipe"]:
        raise UserError(f"{path}: belongs to another run, of another recipe or seed")
    if fingerprint is not None and found.get("data") != own["data"]:
        raise UserError(f"{path}: belongs to another run, on other data")
