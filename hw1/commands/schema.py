"""Print the JSON Schema of recipes, from which editors complete keys."""

import argparse
import json
from collections.abc import Sequence

from hw1.config.json_schema import recipe_schema


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one."""
    return argparse.ArgumentParser(prog, description=__doc__).parse_args(argv)


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command."""
    parse(argv, prog)
    from hw1.data.augment.transform_schema import step_schema  # albumentations takes a second to import

    schema = recipe_schema()
    schema["$defs"]["TransformStep"] = step_schema()
    schema["$defs"]["AugConfig"]["properties"]["transforms"]["items"] = {"$ref": "#/$defs/TransformStep"}
    print(json.dumps(schema, indent=2))
