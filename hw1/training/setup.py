"""From a recipe to everything that the training loop needs: process, device, data, loaders, state."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hw1.config.recipe import NO_COLUMN, Recipe, TrainConfig, step_images
from hw1.data.alike_names import describe_alike
from hw1.data.bad_images import check_images
from hw1.data.image_folder import open_training_data
from hw1.data.image_set import TrainingData
from hw1.data.leak_check import describe_faults
from hw1.data.loader.loader import Loader, build_eval_loader, build_train_loader
from hw1.data.passed_over import describe_passed_over
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.models.factory import check_model
from hw1.runs.environment import describe_environment
from hw1.runs.folder import RunFolder, RunVersion, Status
from hw1.runs.identity import require_identity
from hw1.runtime import distributed as dist
from hw1.runtime.cpu import limit_threads
from hw1.runtime.device import (
    amp_dtype,
    describe_device,
    device_name,
    keep_freed_memory,
    pick_device,
    precision_name,
    set_determinism,
)
from hw1.training.batch_size import choose_batch_size
from hw1.training.build_state import build_train_state
from hw1.training.check_state import check_state
from hw1.training.checkpointer import Checkpointer
from hw1.training.optim import check_optimizer
from hw1.training.overview import count_parameters
from hw1.training.progress import Progress
from hw1.training.train_state import TrainState
from hw1.utils.console import say
from hw1.utils.files import make_folder
from hw1.utils.text import some_of

PACKAGES_THAT_COUNT = ("torch", "torchvision", "timm", "albumentations", "opencv-python-headless", "numpy")
"""Packages whose version may change the numbers."""
ANOTHER_RUN = "run.name=NAME, or --new, starts another run"


class Parts(NamedTuple):
    """What a run is made of, before anything of it is written."""

    is_new: bool
    """Whether the run begins; else it is continued."""
    state: TrainState
    data: TrainingData
    train_loader: Loader
    val_loader: Loader
    checkpointer: Checkpointer
    damaged: list[str]
    """What is wrong with checkpoints newer than the one that the run is continued from, a line each."""


def prepare_process(config: TrainConfig) -> None:
    """Set what holds for the whole process: determinism, threads, memory."""
    set_determinism(config.deterministic)
    limit_threads()
    keep_freed_memory()


def build_parts(recipe: Recipe, run: RunFolder, status: Status, *, overwrite: bool = False) -> Parts:
    """Open the data and build the state, from the recipe or from the newest checkpoint; write nothing.

    Args:
        recipe: The recipe.
        run: Its run folder.
        status: What the folder holds.
        overwrite: Start over where the run cannot be continued.

    Raises:
        UserError: The recipe, the data or the checkpoints do not fit together.
    """
    if status != "new":
        try:
            return _build_parts(recipe, run, is_new=False)
        except UserError as error:
            if not overwrite:
                raise
            reason = error.problems[0] if error.problems else ""
    parts = _build_parts(recipe, run, is_new=True)
    if status != "new" and dist.is_main():
        say(f"{reason}; started over")
    return parts


def _build_parts(recipe: Recipe, run: RunFolder, *, is_new: bool) -> Parts:
    device = dist.all_or_raise(lambda: _pick_device(recipe))
    problems = check_model(recipe.model, recipe.freeze, load_weights=is_new, image_size=recipe.aug.size)
    problems += check_optimizer(recipe.optim)
    data = dist.first_on_each_machine(lambda: open_data(recipe, problems))
    precision = precision_name(amp_dtype(recipe.train, device))
    dist.require_same({"train.device": device.type, "train.amp": precision, "data.root": f"files {data.fingerprint[:8]}"})
    if dist.is_main():
        say(describe_device(device))
        by_image = recipe.data.val_fraction is not None and recipe.data.group_column in (None, NO_COLUMN)
        faults = describe_faults(data, is_held_out=by_image, labels=recipe.data.labels)
        for line in filter(None, (describe_passed_over(data.train, data.val), describe_alike(data.classes.names), faults)):
            say(line)
    recipe = choose_batch_size(recipe, device, data.classes.num_classes)

    def build() -> tuple[Loader, TrainState]:
        loader = build_train_loader(data.train, recipe, device)
        assert data.train.labels is not None
        labels, steps = data.train.labels, loader.num_batches
        return loader, build_train_state(recipe, device, data.classes, labels, data.fingerprint, steps, load_weights=is_new)

    train_loader, state = dist.all_or_raise(build)
    checkpointer = Checkpointer(run)
    damaged: list[str] = []
    if not is_new:
        saved, damaged = dist.run_on_rank0(checkpointer.load)
        dist.all_or_raise(lambda: continue_from(saved, state, run, data))
    val_loader = dist.all_or_raise(lambda: build_eval_loader(data.val, recipe, device))
    state.wrap_ddp()
    return Parts(is_new, state, data, train_loader, val_loader, checkpointer, damaged)


def open_data(recipe: Recipe, problems: list[str]) -> TrainingData:
    """Open and check the data.

    Args:
        recipe: The recipe.
        problems: Earlier problems with the recipe, reported together with those of the data.

    Raises:
        UserError: There are problems.
    """
    try:
        if recipe.data.generate and recipe.data.root and not problems:
            draw_shapes(Path(recipe.data.root).expanduser(), recipe.data.generate)
        data = open_training_data(recipe.data, recipe.seed, recipe.model.num_classes)
    except UserError as error:
        raise UserError(*problems, *error.problems) from None
    if problems:
        raise UserError(*problems)
    train, val = check_images([data.train, data.val], recipe.data.bad_images, max_bad=recipe.data.max_bad)
    data = TrainingData(train, val, data.classes)
    _ = data.fingerprint  # here, where the first process of a machine goes ahead and the others find what it has remembered
    return data


def continue_from(saved: dict[str, Any], state: TrainState, run: RunFolder, data: TrainingData) -> None:
    """Fill in a saved state. Another number of processes goes on at the same step, with the same images in every batch.

    Raises:
        UserError: The data are not those of the run; says the difference.
    """
    config = state.recipe.data
    source = config.labels or config.root or config.dataset
    former, current = tuple(saved["classes"]), data.classes.names
    if former != current:
        gone, new = sorted(set(former) - set(current)), sorted(set(current) - set(former))
        parts = [f"{len(former)} then, {len(current)} now", f"gone {_quoted(gone)}" if gone else "", f"new {_quoted(new)}" if new else ""]
        difference = "; ".join(filter(None, parts))
        raise UserError(f"{run.path}: trained on other classes than those in {source} ({difference}); {ANOTHER_RUN}")
    if not data.has_fingerprint(saved["fingerprint"]):
        counts = f"{len(data.train)} + {len(data.val)} now"
        with suppress(OSError, ValueError, KeyError):
            env = json.loads(run.env.read_bytes())
            counts = f"{env['num_train']} + {env['num_val']} then, {counts}"
        raise UserError(f"{run.path}: the images in {source} have changed since ({counts}), in name, content or label; {ANOTHER_RUN}")
    check_state(saved, state, str(run.path))
    require_identity(run.path / "checkpoints", saved.get("identity"), state.recipe, saved["fingerprint"])
    state.load_state_dict(saved)
    epoch, epochs = state.progress.epoch, state.recipe.train.epochs
    if state.progress.step and epoch >= epochs:
        raise UserError(
            f"train.epochs: {epochs}, but epoch {epoch + 1} of {run.path} has begun; train.epochs={epoch + 1} ends the run after it"
        )
    num = saved["num_processes"] if "num_processes" in saved else 1 + len(saved.get("other_rngs", ()))
    if num != dist.world_size():
        what = "the same batches, but other draws of dropout and other shares for BatchNorm"
        say(f"{run.path}: trained by {num} processes so far, by {dist.world_size()} from here on: {what}")


@contextmanager
def locked_run(run: RunFolder, version: RunVersion) -> Iterator[None]:
    """Make and lock the run folder.

    Args:
        run: The run folder.
        version: Its version when its status was read.

    Raises:
        UserError: It cannot be made or locked, or another process has worked on it since.
    """
    try:
        make_folder(run.path)
    except OSError as error:
        raise UserError(f"run.dir: {run.path} cannot be made: {error.strerror}") from None
    with run.lock():
        if run.version() != version:
            raise UserError(f"{run.path}: another process has worked on this run meanwhile; the same command continues it")
        yield


def resolved_facts(state: TrainState, data: TrainingData) -> dict[str, Any]:
    """Return what the recipe came to: the machine, versions and code, the data, the model's size, precision and processes."""
    total, trained = count_parameters(state.model)
    return {
        **describe_environment(device_name(state.device)),
        "num_train": len(data.train),
        "num_val": len(data.val),
        "num_classes": data.classes.num_classes,
        **_fingerprints(data),
        "num_parameters": total,
        "num_trained_parameters": trained,
        "precision": precision_name(amp_dtype(state.recipe.train, state.device)),
        "num_processes": dist.world_size(),
    }


def note_environment(run: RunFolder, data: TrainingData, progress: Progress, wandb_id: str | None) -> None:
    """Say what has changed in the packages since the run began, and record in `env.json` from which epoch on; add fingerprints it lacks."""
    now = describe_environment("")["packages"]
    try:
        env = json.loads(run.env.read_bytes())
        then = (env.get("changes") or [env])[-1]["packages"]
        changes = {name: (then.get(name), now[name]) for name in PACKAGES_THAT_COUNT if then.get(name) != now[name]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        say(f"{run.env}: missing or damaged, so that it is not known what the run began with; written anew")
        env, changes = {}, {name: (None, now[name]) for name in PACKAGES_THAT_COUNT}
    before = dict(env)
    env |= _fingerprints(data)  # a run begun before contents counted has another one
    env["wandb_id"] = wandb_id
    shown = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items() if old)
    if shown:
        say(f"{run.path}: continued with other packages ({shown}): the numbers may differ from those of an uninterrupted run")
    if changes:
        env["changes"] = [*env.get("changes", ()), {"from_epoch": progress.epoch + 1, "from_step": progress.step, "packages": now}]
    if env != before:
        run.write_json(run.env, env)


def _fingerprints(data: TrainingData) -> dict[str, str]:
    """Return what `env.json` says of the data; the second one is for comparison with runs begun before contents counted."""
    return {"fingerprint": data.fingerprint, "fingerprint_without_content": data.fingerprint_without_content}


def _pick_device(recipe: Recipe) -> torch.device:
    """Pick the device; raise `UserError` for a precision it lacks, and for what several processes cannot do."""
    device = pick_device(recipe.train)
    amp_dtype(recipe.train, device)
    num, size = dist.world_size(), recipe.data.batch_size
    if num > (step_images(recipe) if isinstance(size, str) else size):
        raise UserError(f"data.batch_size: {num} processes cannot share {size} images; start fewer, or raise it")
    if num > 1 and recipe.train.sync_bn and device.type != "cuda":
        raise UserError(f"train.sync_bn: torch has it for GPUs only, not for {num} processes on the {device.type}; set it to false")
    return device


def _quoted(names: list[str]) -> str:
    return some_of(map(repr, names))
