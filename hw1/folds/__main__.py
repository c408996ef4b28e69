"""Train k runs, each without another part of the images, and predict every image by the run that never saw it.

Parts are stratified by class; images of one group, and copies of one image, are never in two of them. Training and validation images are
joined; test images are predicted by the mean of all runs. The same command continues after a kill.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hw1.ablate.carry_out import carry_out as train_runs
from hw1.ablate.plan import PlannedRun, check_data, plan_run, print_plan
from hw1.ablate.plan_folder import locked_folder
from hw1.ablate.ray_cluster.connection import add_ray_options, check_options
from hw1.audit.label_errors import OUT_OF_FOLD
from hw1.config.load import load_recipe
from hw1.config.recipe import NO_COLUMN, DataConfig
from hw1.config.settings import without_dashes
from hw1.config.shipped import RULE
from hw1.data.folders import require_root
from hw1.errors import UserError, run_command
from hw1.folds.images import FoldImages, join_copies, read_images
from hw1.folds.table import FoldTable
from hw1.plots.style import save_figure
from hw1.utils.console import say, show
from hw1.utils.files import write_atomic
from hw1.utils.own_command import hw1_command
from hw1.utils.text import counted

EXIT_CODES = (
    "exit codes: 0 done, 2 mistake in recipe or data (nothing was started), 3 some runs failed (the others were trained), 130/143 "
    "interrupted (SIGINT/SIGTERM), state saved"
)


def parse(argv: Sequence[str], prog: str = "python -m hw1.folds") -> argparse.Namespace:
    """Parse the command line of the program `prog`."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("recipe", metavar="RECIPE", help=RULE)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe, for all runs")
    parser.add_argument("--k", type=int, default=5, metavar="N", help="number of folds, at least 2 (default: 5)")
    parser.add_argument("--group", metavar="COLUMN", help="column of data.labels whose equal values (a patient) stay in one fold")
    add_ray_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="draw the folds, print the plan with its commands and stop")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str = "python -m hw1.folds") -> None:
    """Carry out the cross-validation that the command line describes."""
    args = parse(argv, prog)
    check_options(args.ray, args.cpus_per_run, args.gpus_per_run)
    if args.k < 2:
        raise UserError(f"--k: at least 2, got {args.k}")
    if args.group and load_recipe(args.recipe, args.overrides).data.labels is None:
        raise UserError("--group: names a column of data.labels, which is not set; folders have no groups")
    overrides = [*args.overrides, *([f"data.group_column={json.dumps(args.group)}"] if args.group else [])]
    recipe = load_recipe(args.recipe, overrides)
    images = read_images(recipe.data)
    folder = Path(recipe.run.dir) / f"{recipe.run.name}-folds"
    with locked_folder(folder):
        table = open_table(folder / "folds.csv", images, args.k, recipe.seed)
        runs = plan_folds(args.recipe, overrides, folder, table)
        if args.dry_run:
            print_plan(runs)
            return
        check_data(runs)
        train_runs(runs, args)
        conclude(folder, table, runs)
        show(f"next: {audit_command(recipe.data, folder)}")


def open_table(path: Path, images: FoldImages, k: int, seed: int) -> FoldTable:
    """Read the folds that were drawn before, or draw and write them.

    Raises:
        UserError: The images have changed since, or no such folds can be drawn.
    """
    if path.exists():
        table = FoldTable.read(path, images, k)
        say(f"{path}: {k} folds of {counted(len(images.files), 'image')}, drawn before")
        return table
    from hw1.folds.assign import assign_folds  # scikit-learn takes a second to import

    images, num_copies = join_copies(images)
    table = FoldTable(images, assign_folds(images.labels, images.groups, k, seed).tolist(), k)
    table.write(path, {})
    num_groups = len({group for group in images.groups if group})
    copies = f"; {num_copies} show the same as another and stay together" if num_copies else ""
    groups = f", {counted(num_groups, 'group')}" if num_groups else ""
    say(f"{path}: {k} folds of {counted(len(images.files), 'image')}{groups}{copies}")
    return table


def plan_folds(path: str, overrides: Sequence[str], folder: Path, table: FoldTable) -> list[PlannedRun]:
    """Plan a run for each fold.

    Raises:
        UserError: A run folder holds something else.
    """
    columns = {"file": "image", "label": "label", "fold": "fold", "split": NO_COLUMN, "group": NO_COLUMN}
    settings = [
        *(f"data.{role}_column={name}" for role, name in columns.items()),
        f"data.labels={json.dumps(str(folder / 'folds.csv'))}",
        "data.val_fraction=null",
        "data.generate=0",
        f"run.dir={json.dumps(str(folder))}",
    ]
    seed = load_recipe(path, overrides).seed
    kept = [text for text in overrides if text.partition("=")[0].strip() != "seed"]
    runs = []
    for fold in range(table.k):
        run = plan_run(path, [*kept, *settings, f"data.fold={fold}", f"run.name=fold{fold}"], str(seed), group=folder.name)
        run.refresh()
        runs.append(run)
    return runs


def conclude(folder: Path, table: FoldTable, runs: Sequence[PlannedRun]) -> None:
    """Join the predictions, write them, predict the test images, and say what came of it."""
    from hw1.folds.results import cross_validate, describe_accuracy, join_predictions, plot_accuracy

    joined = join_predictions(table, [run.folder for run in runs])
    result = cross_validate(table, joined)
    joined.predictions.save(folder / OUT_OF_FOLD, files=joined.files, class_names=joined.class_names)
    answers = joined.predictions.logits.argmax(axis=1).tolist()
    predicted = {file: joined.class_names[answer] or str(answer) for file, answer in zip(joined.files, answers, strict=True)}
    table.write(folder / "folds.csv", predicted)
    over_folds = {name: getattr(result.over_folds, name) for name in ("mean", "low", "high")}
    content = result._asdict() | {"over_folds": over_folds}
    write_atomic(folder / "folds.json", (json.dumps(content, indent=2) + "\n").encode())
    save_figure(plot_accuracy(table, joined), folder / "folds.png")
    if (missing := len(table.images.files) - len(joined.files)) > 0:
        say(f"{folder}: {counted(missing, 'image')} could not be read and have no prediction")
    if table.images.test_files:
        predict_test(runs, table.images.test_files)
    for line in describe_accuracy(result):
        show(line)
    show(f"{folder}: folds.csv with every prediction, folds.json, folds.png")


def audit_command(config: DataConfig, folder: Path) -> str:
    """Return the command that lists probable label errors by the folds; `folds.csv` has the labels where no folders do."""
    listed = ["--labels", str(folder / "folds.csv")] if config.labels is not None else []
    return f"{hw1_command()} audit {shlex.join([str(require_root(config.root)), *listed, '--folds', str(folder)])}"


def predict_test(runs: Sequence[PlannedRun], files: Sequence[str]) -> None:
    """Predict the unlabelled images by the mean of all runs, as a submission; by their whole names where the stems are not unique."""
    from hw1.commands.validate import carry_out, parse

    first, *others = [str(run.folder.path) for run in runs]
    names = [] if len({Path(file).stem for file in files}) == len(files) else ["--full-names"]
    carry_out(parse([first, "--split", "test", *names, "--with", *others]))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
