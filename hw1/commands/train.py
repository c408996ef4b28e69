"""Train the model that a recipe describes, or continue an interrupted run.

On several GPUs: torchrun --nproc-per-node N train.py RECIPE [section.key=value ...]
"""

import argparse
import os
import shlex
import textwrap
from collections.abc import Callable, Sequence

from hw1.config.load import dump_recipe, load_recipe, with_sources
from hw1.config.open_values import close_like
from hw1.config.recipe import AugConfig, Recipe
from hw1.config.settings import without_dashes
from hw1.config.shipped import RULE, shipped_recipes
from hw1.data.flat_folder import describe_flat, with_flat_fraction
from hw1.data.folders import make_cache_folder, require_root
from hw1.data.label_columns import close_labels
from hw1.errors import UserError
from hw1.runs.folder import RunFolder, RunVersion, Status
from hw1.runs.status import numbered, run_status, why_finished
from hw1.runtime import distributed as dist
from hw1.tracking.start import check_trackers
from hw1.tracking.wandb_environment import with_environment
from hw1.utils.console import show
from hw1.utils.files import missing_file
from hw1.utils.own_command import hw1_command
from hw1.utils.signals import StopRequest, ignore_at_exit

EXIT_CODES = "exit codes: 0 done or already finished, 2 mistake in recipe or data, 3 training failed, 128 + n stopped by signal n, saved"
NEW = "train another run of this name and seed: in runs/NAME-2, NAME-3, ...; run.name=NAME-2 without this continues it"
OVERWRITE = "start over a finished run of this name and seed, or one of another recipe or data; an unfinished one is continued"


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one."""
    epilog = "\n".join(map(textwrap.fill, (f"recipes that come with hw1: {', '.join(shipped_recipes())}", EXIT_CODES)))
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE", help=RULE)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe; values are YAML")
    parser.add_argument("--print-config", action="store_true", help="print the whole recipe as it would be used, and stop")
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument("--new", action="store_true", help=NEW)
    beginning.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command; torchrun's processes all call it."""
    try:
        with dist.process_group():
            carry_out(parse(argv, prog))
    finally:
        ignore_at_exit()


def carry_out(args: argparse.Namespace, stop: StopRequest | None = None) -> RunFolder:
    """Do what the parsed command line asks for; call it within `dist.process_group()`.

    Args:
        args: Of `parse`.
        stop: Hears the signals that ask to stop; None takes the command's.

    Returns:
        The run's folder.
    """
    recipe, run, status, version, notes = dist.run_on_rank0(lambda: look(args))
    if status == "finished":
        show(f"{run.path}: {why_finished(run, recipe)}, --new starts another run, --overwrite starts this one over")
        show(f"next: {hw1_command()} validate {shlex.quote(str(run.path))}")
        return run
    try:
        if args.print_config:
            recipe = close(recipe)
            check_augmentation(recipe)
            print(dump_recipe(recipe), end="")
        else:
            train(recipe, run, status, version, notes, overwrite=args.overwrite, stop=stop)
    except UserError as error:
        raise UserError(*with_sources(error.problems, args.recipe, args.overrides)) from None
    return run


def look(args: argparse.Namespace) -> tuple[Recipe, RunFolder, Status, RunVersion, list[str]]:
    """Return the recipe, its run folder, what that holds, the folder's version then, and what to tell the user. Reads only."""
    notes: list[str] = []
    recipe = load_recipe(args.recipe, args.overrides, tell=notes.append)
    typed = {override.partition("=")[0].strip() for override in args.overrides}
    recipe, variables = with_environment(recipe, typed, os.environ)
    if variables:
        notes.append(f"wandb: from the environment: {', '.join(variables)}")
    if args.print_config:
        return recipe, RunFolder.of(recipe), "new", [], notes
    if args.new:
        recipe, name = numbered(recipe, again=dist.is_restart()), recipe.run.name
        if (number := recipe.run.name) != name:
            notes.append(f"{RunFolder.of(recipe).path}: a new run; the same command with run.name={number} instead of --new continues it")
    run = RunFolder.of(recipe)
    run.require_unlocked()
    version = run.version()
    status = run_status(run, recipe, overwrite=args.overwrite and not dist.is_restart())
    return recipe if status == "new" else close_like(recipe, run.read_recipe()), run, status, version, notes


def train(
    recipe: Recipe,
    run: RunFolder,
    status: Status,
    version: RunVersion,
    notes: list[str],
    *,
    overwrite: bool = False,
    stop: StopRequest | None = None,
) -> None:
    """Train, and say where the results are; `notes` are told once nothing is left that could be the user's mistake."""
    dist.all_or_raise(lambda: check_files(recipe, status))
    closed = dist.all_or_raise(lambda: close(recipe, notes.append)) if status == "new" else recipe
    dist.all_or_raise(lambda: check_augmentation(closed))

    from hw1.training.trainer import fit  # torch takes seconds to import: only once what can be known without it is right

    summary = fit(closed, run, status, version, notes, overwrite=overwrite, stop=stop)
    best_by = summary["best_by"]
    best = f"best val {best_by.replace('top1', 'top-1')} {summary[f'best_{best_by}']:.4f} in epoch {summary['best_epoch']}"
    show(f"{run.path}: {best}; see curves.png, metrics.csv, checkpoints/")
    show(f"next: {hw1_command()} validate {shlex.quote(str(run.path))}")


def close(recipe: Recipe, tell: Callable[[str], None] | None = None) -> Recipe:
    """Return the recipe with nothing left open but what the device decides (`data.batch_size`).

    Args:
        recipe: The recipe.
        tell: Is given what the user should know, line by line.
    """
    from hw1.models.resolve import resolve  # timm takes seconds to import

    closed, notes = resolve(recipe)
    data = with_flat_fraction(closed.data)
    if data is not closed.data:
        closed = closed.model_copy(update={"data": data})
        notes.append(describe_flat(data, recipe.seed))
    data, lines = close_labels(closed.data, recipe.seed)
    notes += lines
    closed = closed.model_copy(update={"data": data})
    if tell is not None:
        for note in notes:
            tell(note)
    return closed


def check_augmentation(recipe: Recipe) -> None:
    """Check the steps of `aug.transforms`; without any of the user's there is nothing to check, and nothing to import.

    Raises:
        UserError: A step cannot be carried out.
    """
    if recipe.aug.transforms != AugConfig().transforms:
        from hw1.data.augment.transforms import check_transforms

        check_transforms(recipe.aug)


def check_files(recipe: Recipe, status: Status) -> None:
    """Check that the files, folders and trackers are there that the recipe names.

    Raises:
        UserError: One is not.
    """
    check_trackers(recipe.log)
    problems = missing_file("model.weights", recipe.model.weights) if status == "new" else []  # a run that is continued reads its own
    problems += missing_file("data.labels", recipe.data.labels)
    try:
        if recipe.data.dataset is None and not (recipe.data.generate and recipe.data.root):
            require_root(recipe.data.root)
        if recipe.data.cache == "disk":
            make_cache_folder(recipe.data.cache_dir)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(*problems)
