#!/usr/bin/env python
"""Trains the model that a recipe describes, or continues an interrupted run: python train.py RECIPE.yaml [section.key=value ...]

On several GPUs: torchrun --nproc-per-node N train.py RECIPE.yaml [section.key=value ...]
"""

import argparse
import sys
from collections.abc import Sequence

from hw1.config.load import dump_recipe, load_recipe, with_sources
from hw1.config.recipe import Recipe
from hw1.errors import UserError, run_command
from hw1.runs.folder import RunFolder, RunVersion, Status, run_status
from hw1.runtime import distributed as dist

EXIT_CODES = "exit codes: 0 done or already finished, 2 mistake in recipe or data, 3 training failed, 130/143 interrupted (SIGINT/SIGTERM)"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe; values are YAML")
    parser.add_argument("--print-config", action="store_true", help="print the whole recipe as it would be used, and stop")
    parser.add_argument("--overwrite", action="store_true", help="delete the run of this name and seed and start over")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str]) -> None:
    with dist.process_group():
        args = parse(argv)
        recipe, run, status, version = dist.run_on_rank0(lambda: look(args))
        if args.print_config:
            print(dump_recipe(recipe), end="")
        elif status == "finished":
            print(f"{run.path}: finished already; train.epochs=N trains longer, --overwrite starts over, run.name=NAME starts another run")
        else:
            carry_out(args, recipe, run, status, version)


def look(args: argparse.Namespace) -> tuple[Recipe, RunFolder, Status, RunVersion]:
    """The recipe, its run folder, what that holds, and the folder's stamp then. Reads only."""
    recipe = load_recipe(args.recipe, args.overrides)
    run = RunFolder.of(recipe)
    if args.print_config:
        return recipe, run, "new", []
    run.require_unlocked()
    version = run.version()
    return recipe, run, run_status(run, recipe, overwrite=args.overwrite and not dist.is_restart()), version


def carry_out(args: argparse.Namespace, recipe: Recipe, run: RunFolder, status: Status, version: RunVersion) -> None:
    from hw1.training.trainer import fit  # torch takes seconds to import: only once the recipe is known to be right

    try:
        summary = fit(recipe, run, status, version)
    except UserError as error:
        raise UserError(*with_sources(error.problems, args.recipe, args.overrides)) from None
    print(
        f"{run.path}: best val top-1 {summary['best_top1']:.4f} in epoch {summary['best_epoch']}; see curves.png, metrics.csv, checkpoints/"
    )
    print(f"next: python validate.py {run.path}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
