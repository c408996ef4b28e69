"""Plans of runs: several recipes over several seeds, what state each run is in, and how to train one of them."""

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hw1.ablate.child_process import ChildProcess
from hw1.ablate.variants import WANDB_GROUP, tags_of
from hw1.config.load import load_recipe, with_sources
from hw1.config.recipe import LogConfig, Recipe, RunConfig
from hw1.errors import EXIT_OK, RunError, UserError
from hw1.runs.folder import RunFolder, Status
from hw1.runs.status import run_status
from hw1.utils.text import format_seconds

POLL_SECONDS = 0.5
UNLOCK_SECONDS = 180.0
"""How long a run waits for the lock of its former process, whose parent, worker or node died; NFS takes up to 90 s to release it."""
TRAIN = [sys.executable, "-m", "hw1", "train"]
ACTIONS: dict[Status, str] = {"new": "start", "interrupted": "continue", "finished": "finished"}


@dataclass
class PlannedRun:
    """One recipe with one seed, and what `refresh` last read from the run folder."""

    path: str
    """The recipe's file."""
    overrides: tuple[str, ...]
    recipe: Recipe
    status: Status = "new"
    num_epochs: int = 0
    """Epochs recorded in the folder, of `recipe.train.epochs`."""
    seconds: float = 0.0
    """What those epochs took."""
    console: Path | None = None
    """File to which what the training prints is appended, in a folder that exists; None: it goes to the console."""

    @property
    def folder(self) -> RunFolder:
        """Return the run's folder."""
        return RunFolder.of(self.recipe)

    @property
    def command(self) -> list[str]:
        """Return the command line that trains the run."""
        return [*TRAIN, self.path, *self.overrides]

    def refresh(self) -> None:
        """Read status, epochs and seconds from the run folder.

        Raises:
            UserError: If the folder holds another recipe's run, a damaged one or none at all.
        """
        self.status = run_status(self.folder, self.recipe)
        rows = [] if self.status == "new" else self.folder.read_metrics()
        self.num_epochs, self.seconds = len(rows), sum(row["seconds"] for row in rows)


class Outcome(NamedTuple):
    """How the training of one run ended."""

    code: int
    """Exit code, or minus the number of the signal that killed it."""
    problem: str | None
    """What went wrong, as one line; None if the run is finished."""


def train(run: PlannedRun, child: ChildProcess, should_stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Train a run in a child process until it ends, or until `should_stop` returns True and it has saved."""
    code = child.run(run.command, run.console, should_stop)
    return Outcome(code, _find_problem(run, code))


def wait_for_lock(folder: RunFolder, child: ChildProcess) -> None:
    """Wait until the former process of a run, whose parent died, has saved and ended, or until a signal arrives; for 3 minutes at most."""
    deadline = time.monotonic() + UNLOCK_SECONDS
    while folder.is_locked() and time.monotonic() < deadline and child.signum is None:
        time.sleep(POLL_SECONDS)


def _find_problem(run: PlannedRun, code: int) -> str | None:
    if code == EXIT_OK:
        try:
            run.refresh()
        except UserError as error:
            return error.problems[0]
        return None if run.status == "finished" else f"{run.folder.path}: ended, but is not finished"
    reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{run.folder.path}: {reason}{_last_line(run.console)}"


def _last_line(console: Path | None) -> str:
    """Return what a failed training said last, and where the rest is; empty where it went to the console."""
    if console is None:
        return ""
    try:
        lines = console.read_bytes()[-4096:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return (f": {said[-1]}" if said else "") + f" (see {console})"


def conclude(runs: Sequence[PlannedRun], failed: Sequence[str]) -> None:
    """Say that every run of a plan is finished, once all have ended.

    Args:
        runs: The plan.
        failed: A line for each run that failed.

    Raises:
        RunError: If any run failed.
    """
    if failed:
        raise RunError("\n".join([f"{len(failed)} of {len(runs)} runs failed; the same command tries them again:", *failed]))
    print(f"all {len(runs)} runs are finished")


# ------------------------------------------------------------------------------------------------------------ the plan


def make_plan(paths: Sequence[str], overrides: Sequence[str], seeds: Sequence[str]) -> list[PlannedRun]:
    """Plan every recipe with every seed: all recipes with one seed before the next, so that an interrupted plan leaves whole seeds.

    Args:
        paths: Recipe files.
        overrides: `section.key=value`, for all recipes.
        seeds: As the user typed them.

    Raises:
        UserError: With every problem of all recipes and run folders.
    """
    if not paths:
        raise UserError("no recipe given, only section.key=value")
    if any(text.partition("=")[0].strip() == "seed" for text in overrides):
        raise UserError("command line: seed: is what --seeds sets")
    runs: list[PlannedRun] = []
    problems: list[str] = []
    for seed in dict.fromkeys(seeds):
        for path in dict.fromkeys(paths):
            try:
                runs.append(plan_run(path, overrides, seed))
            except UserError as error:
                problems += error.problems
    problems += _find_duplicates([run for run in runs if run.recipe.seed == runs[0].recipe.seed])
    folder_problems: list[str] = []
    for run in runs:
        try:
            run.refresh()
        except UserError as error:
            folder_problems += error.problems
    if folder_problems:
        folder_problems.append("run.dir=FOLDER carries out this plan in another folder; --new and --overwrite are options of hw1 train")
    if problems or folder_problems:
        raise UserError(*dict.fromkeys(problems + folder_problems))
    return runs


def plan_run(path: str, overrides: Sequence[str], seed: str, group: str = WANDB_GROUP) -> PlannedRun:
    """Load a recipe with these overrides and, where wandb is on, this group and the run's tags unless others are set.

    Raises:
        UserError: With every problem of the recipe.
    """
    changes = [*overrides, f"seed={seed}"]
    recipe = load_recipe(path, changes)
    labels = []
    if recipe.log.wandb != "off":
        if recipe.log.group is None:
            labels.append(f"log.group={group}")
        if not recipe.log.tags:
            labels.append(f"log.tags={json.dumps(tags_of(str(recipe.run.name)))}")
    changes[-1:-1] = labels
    return PlannedRun(path, tuple(changes), load_recipe(path, changes) if labels else recipe)


def _find_duplicates(runs: Sequence[PlannedRun]) -> list[str]:
    """Return a line for each recipe that shares a run folder with an earlier one, or is the same experiment.

    Recipes that differ in one key are the same experiment where an override sets that key.
    """
    problems = []
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if run.folder == other.folder:
                problems.append(f"{run.path}: would be written to {run.folder.path}, as {other.path} is; leave one of them out")
                break
            if experiment(run.recipe) == experiment(other.recipe):
                problems.append(f"{run.path}: is the same experiment as {other.path} with these overrides; leave one of them out")
                break
    return problems


def experiment(recipe: Recipe) -> Recipe:
    """Return the recipe without what says where it is written and logged: equal for equal experiments."""
    return recipe.model_copy(update={"run": RunConfig(), "log": LogConfig()})


def check_data(runs: Sequence[PlannedRun]) -> None:
    """Open the data of all unfinished runs and try their augmentation, once for all that share it.

    Images that are yet to be drawn are left to the run.

    Raises:
        UserError: With every problem.
    """
    from hw1.data.augment.transforms import check_transforms
    from hw1.data.image_folder import open_training_data
    from hw1.models.resolve import resolve

    problems: list[str] = []
    checked: list[Any] = []
    for run in runs:
        if run.status != "finished" and run.recipe.aug not in checked:
            checked.append(run.recipe.aug)
            try:
                check_transforms(resolve(run.recipe)[0].aug)
            except UserError as error:
                problems += with_sources(error.problems, run.path, run.overrides)
        data = (run.recipe.data, run.recipe.model.num_classes)
        if run.status != "finished" and not run.recipe.data.generate and data not in checked:
            checked.append(data)
            try:
                open_training_data(run.recipe.data, run.recipe.seed, run.recipe.model.num_classes)
            except UserError as error:
                problems += with_sources(error.problems, run.path, run.overrides)
    if problems:
        raise UserError(*dict.fromkeys(problems))


def print_plan(runs: Sequence[PlannedRun]) -> None:
    """Print every run with its state and, if it is unfinished, its command."""
    for number, run in enumerate(runs, start=1):
        epochs = f"{run.num_epochs} of {run.recipe.train.epochs} epochs done" if run.num_epochs else f"{run.recipe.train.epochs} epochs"
        print(f"{number:>{len(str(len(runs)))}}/{len(runs)}  {ACTIONS[run.status]:<8}  {run.folder.path}  {epochs}")
        if run.status != "finished":
            print(f"    {shlex.join(['python', *run.command[1:]])}")
    print(describe(runs))


def describe(runs: Sequence[PlannedRun], *, num_parallel: int = 1) -> str:
    """Return one line: how many runs are in which state and, where some epochs were timed, the time left with `num_parallel` at once."""
    counts = {status: sum(run.status == status for run in runs) for status in ACTIONS}
    num_parallel = max(min(num_parallel, len(runs) - counts["finished"]), 1)
    left = (seconds_left(runs, runs) or 0.0) / num_parallel
    return f"{len(runs)} runs: {counts['finished']} finished, {counts['interrupted']} to continue, {counts['new']} to start" + (
        f"; about {format_seconds(left)} left" if left else ""
    )


def seconds_left(pending: Sequence[PlannedRun], known: Sequence[PlannedRun]) -> float | None:
    """Estimate how long runs will take from the epochs of runs that were timed: those of the same recipe, else all.

    The estimate leaves out start-up and does not foresee early stopping.

    Args:
        pending: The runs to estimate; finished ones take no time.
        known: The runs that may have timed epochs.

    Returns:
        Seconds, or None where no epoch was timed.
    """

    def seconds_per_epoch(runs: Sequence[PlannedRun]) -> float | None:
        epochs = sum(run.num_epochs for run in runs)
        return sum(run.seconds for run in runs) / epochs if epochs else None

    overall = seconds_per_epoch(known)
    if overall is None:
        return None
    total = 0.0
    for run in pending:
        if run.status != "finished":
            same_recipe = seconds_per_epoch([other for other in known if other.path == run.path])
            total += (overall if same_recipe is None else same_recipe) * max(run.recipe.train.epochs - run.num_epochs, 0)
    return total
