"""What a run folder holds, compared with a recipe, and how a run begins in it."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from hw1.config.load import differences, dump_recipe
from hw1.config.open_values import close_like
from hw1.config.recipe import Recipe, RunConfig
from hw1.errors import RunError, UserError
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import STATE_FILE, RunFolder, Status
from hw1.utils.files import make_folder, remove_leftovers, write_atomic

NUMBERS = tuple(
    key for key in EpochMetrics.__annotations__ if key in EpochMetrics.__required_keys__ and key not in ("images_per_second", "data_wait")
)
"""What every row of `metrics.jsonl` has had since version 0.1."""


def run_status(run: RunFolder, recipe: Recipe, *, overwrite: bool = False) -> Status:
    """Compare the run folder with the recipe; read only.

    With `overwrite` a finished run counts as not there, and so does one that cannot be continued. An unfinished run of this recipe is
    continued all the same: a command that is started again, as by a batch system, must not delete its own work.

    Raises:
        UserError: The folder holds another recipe's run (naming each key that differs and may not), a damaged one, or none at all.
    """
    try:
        # a process that was killed in its first write leaves the temporary file of config.yaml
        is_empty = all(item.name == ".lock" or item.match(f".{run.config.name}.*.tmp") for item in run.path.iterdir())
    except FileNotFoundError:
        return "new"
    except OSError as error:
        raise UserError(f"{run.path}: cannot be a run folder: {error.strerror}") from None
    if is_empty:
        return "new"
    if not run.config.is_file():
        raise UserError(f"{run.path}: exists, but is no run folder; choose another with run.name=NAME or run.dir=FOLDER")
    try:
        status = _status_of(run, recipe)
    except UserError:
        if overwrite:
            return "new"
        raise
    return "new" if overwrite and status == "finished" else status


def numbered(recipe: Recipe, *, again: bool = False) -> Recipe:
    """Return the recipe under the first name of NAME, NAME-2, NAME-3, ... that has no run of this seed.

    Args:
        recipe: The recipe.
        again: The process is started in place of one that failed: take up the last of these names that is unfinished.

    Raises:
        UserError: The numbered name is too long.
    """
    name, number, last, free = str(recipe.run.name), 1, recipe, recipe
    while os.path.lexists(RunFolder.of(free).path):
        number += 1
        last, free = free, _renamed(recipe, f"{name}-{number}")
    if again:
        with suppress(UserError):
            return free if run_status(RunFolder.of(last), last) == "finished" else last
    return free


def _renamed(recipe: Recipe, name: str) -> Recipe:
    try:
        return recipe.model_copy(update={"run": RunConfig.model_validate({**recipe.run.model_dump(), "name": name})})
    except ValidationError:
        raise UserError(f"run.name: {name} is too long; run.name=NAME gives the run another name") from None


def _status_of(run: RunFolder, recipe: Recipe) -> Status:
    made_with = run.read_recipe()
    refused, _ = differences(made_with, close_like(recipe, made_with))
    if refused:
        raise UserError(
            *(f"{run.path}: made with another recipe: {line}" for line in refused),
            f"{run.path}: run.name=NAME, or --new, starts another run, --overwrite starts this one over",
        )
    if run.summary.is_file() and why_finished(run, recipe):
        return "finished"
    if states := run.state_files():
        match = STATE_FILE.fullmatch(states[0].name)
        require_metrics(run, run.read_metrics(), int(match[1]) if match else 0)
        return "interrupted"
    if run.best.is_file():
        raise UserError(f"{run.path}: has a best checkpoint, but no saved state to continue from; --overwrite starts over")
    return "new"


def why_finished(run: RunFolder, recipe: Recipe) -> str | None:
    """Say why a run with a summary is finished under this recipe, and what trains it longer; None if it is not.

    Raises:
        UserError: The summary is damaged.
    """
    try:
        summary = json.loads(run.summary.read_bytes())
        epochs, limit = int(summary["epochs"]), recipe.train.early_stop
        stale = summary.get("stale_epochs", epochs - int(summary.get("best_epoch", 0)))
        if epochs >= run.planned_epochs(recipe):
            longer = "train.epochs=N trains longer" if recipe.train.hours is None else "train.hours=null train.epochs=N trains longer"
            return f"finished already, {epochs} epochs; {longer}"
        if summary["stopped_early"] and limit is not None and stale >= limit:
            return f"finished already: stopped early after epoch {epochs}; train.early_stop=N above {stale}, or null, trains on"
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run.summary}: damaged; delete it to continue the run, or --overwrite starts over") from None


def require_metrics(run: RunFolder, rows: Sequence[EpochMetrics], num_epochs: int) -> None:
    """Raise `UserError` unless the rows are those of epochs 1, 2, ... up to `num_epochs` at least, each once and with all its numbers."""
    for number, row in enumerate(rows, start=1):
        values: dict[str, Any] = dict(row)
        if missing := [key for key in NUMBERS if not isinstance(values.get(key), int | float) or isinstance(values[key], bool)]:
            raise UserError(
                f"{run.metrics_jsonl}: line {number}: no number for {', '.join(missing)}; restore it, or --overwrite starts over"
            )
        if row["epoch"] != number:
            raise UserError(f"{run.metrics_jsonl}: line {number} is of epoch {row['epoch']}; restore it, or --overwrite starts over")
    if len(rows) < num_epochs:
        raise UserError(f"{run.metrics_jsonl}: {len(rows)} of {num_epochs} epochs; restore it, or --overwrite starts over")


def start_folder(run: RunFolder, recipe: Recipe, *, fresh: bool) -> None:
    """Make the folder and state the recipe in it; `fresh` first empties it of an earlier run (the lock stays).

    Killed half-way it leaves a run folder that can be started or overwritten.

    Raises:
        RunError: The folder cannot be written to.
    """
    try:
        make_folder(run.path)
        # A run with fewer epochs than asked for is not finished any more; one that is overwritten must not be continued.
        run.summary.unlink(missing_ok=True)
        if fresh:
            for path in reversed(run.state_files()):  # the newest last: what is left is always the run that was there
                path.unlink(missing_ok=True)
            for item in run.path.iterdir():
                if item not in (run.path / ".lock", run.config):  # without config.yaml it would be no run folder
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        write_atomic(run.config, dump_recipe(recipe).encode())
        make_folder(run.checkpoints)
    except OSError as error:
        raise RunError(f"{error.filename or run.path}: cannot be written: {error.strerror}") from None
    remove_leftovers(run.path)
    remove_leftovers(run.checkpoints)
    for digest in run.checkpoints.glob("*.sha256"):  # of a state that did not get its name
        if not digest.with_suffix(".pt").is_file():
            digest.unlink(missing_ok=True)
