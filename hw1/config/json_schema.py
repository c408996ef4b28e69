"""Print the JSON Schema of recipes, with which editors complete keys.

python -m hw1.config.json_schema > recipes/schema.json
"""

import json
from typing import Any

from hw1.config.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe file: the recipe's keys, all optional, and `base`."""
    schema = Recipe.model_json_schema()
    schema["properties"] = {
        "base": {"type": "string", "description": "Recipe file that this one changes, relative to it."},
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    print(json.dumps(recipe_schema(), indent=2))
