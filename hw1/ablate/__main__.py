"""Train several recipes over several seeds.

Each run is a process of its own, one after the other or, with --ray, on a Ray cluster. Finished runs are skipped, interrupted ones
continued; a failed one does not keep the rest from running.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from hw1.ablate.carry_out import carry_out
from hw1.ablate.plan import check_data, make_plan, print_plan
from hw1.ablate.ray_cluster.connection import add_ray_options, check_options
from hw1.config.settings import split_overrides, without_dashes
from hw1.config.shipped import RULE
from hw1.errors import run_command
from hw1.utils.own_command import hw1_command

EXIT_CODES = (
    "exit codes: 0 all runs finished, 2 mistake in recipes, data or run folders (nothing was started), 3 some runs failed (the others were "
    "trained), 130/143 interrupted (SIGINT/SIGTERM), state saved"
)


def parse(argv: Sequence[str], prog: str = "python -m hw1.ablate") -> argparse.Namespace:
    """Parse the command line of the program `prog`."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("items", metavar="RECIPE | section.key=value", nargs="+", help=f"{RULE}; and changes to all")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], metavar="N", help="default: 0 1 2")
    add_ray_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan with its commands and stop; needs no data")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str = "python -m hw1.ablate") -> None:
    """Train the recipes that the command line names."""
    args = parse(argv, prog)
    paths, overrides = split_overrides(args.items)
    check_options(args.ray, args.cpus_per_run, args.gpus_per_run)
    runs = make_plan(paths, overrides, args.seeds)
    if args.dry_run:
        print_plan(runs)
        return
    check_data(runs)
    carry_out(runs, args)
    print(f"next: {hw1_command()} report {shlex.join(dict.fromkeys(run.recipe.run.dir for run in runs))}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
