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
    print(json.dumps(recipe_schema(), indent=2))
