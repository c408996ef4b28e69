"""The training loop: fit -> train_epoch -> hw1.training.train_step.train_step."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from hw1.config.recipe import Recipe
from hw1.data.decode import check_images
from hw1.data.image_folder import TrainingData, open_training_data
from hw1.data.leak_check import describe_faults
from hw1.data.loader.base import BatchLoader
from hw1.data.loader.loader import build_eval_loader, build_train_loader
from hw1.data.synthetic import draw_shapes
from hw1.errors import RunError, UserError
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.predictions import Predictions
from hw1.models.factory import check_model
from hw1.models.freeze import set_train_mode
from hw1.plots import plot_samples, save_figure
from hw1.runs.environment import describe_environment
from hw1.runs.folder import RunFolder, RunVersion, Status, start_folder
from hw1.runs.wandb_logger import Row, WandbRun
from hw1.runtime import distributed as dist
from hw1.runtime.cpu import limit_threads
from hw1.runtime.device import (
    amp_dtype,
    describe_device,
    device_name,
    is_out_of_memory,
    keep_freed_memory,
    pick_device,
    precision_name,
    set_determinism,
)
from hw1.training.checkpointer import Session, continue_training, read_checkpoint
from hw1.training.record import finish_epoch, finish_run
from hw1.training.train_state import Training, build_training
from hw1.training.train_step import train_step
from hw1.utils.console import say
from hw1.utils.signals import StopRequest


def fit(recipe: Recipe, run: RunFolder, status: Status, version: RunVersion) -> Row:
    """Trains the recipe in the run folder, from the start or from where it was interrupted; returns the summary.

    `status` is that of the folder when its stamp was `version`. Several processes (`hw1.runtime.distributed`) call it together; only rank 0
    reads and writes the folder.

    Raises `UserError` before anything is written to the folder, `RunError` if training fails, and after SIGINT or SIGTERM, with the state
    saved, `Interrupted`.
    """
    set_determinism(recipe.train.deterministic)
    limit_threads()
    keep_freed_memory()
    stop = StopRequest(quiet=not dist.is_main())
    try:
        session = _open_session(recipe, run, status, stop)
        with ExitStack() as own:
            dist.run_on_rank0(lambda: own.enter_context(_owned(run, version)))
            own.enter_context(stop.listening())
            own.callback(session.close)
            dist.run_on_rank0(lambda: _start(session, fresh=status == "new"))
            if status == "new":
                session.training.seed_dropout()  # its draws must not depend on what was drawn to build the model
            return _train(session)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        half = max(1, recipe.data.batch_size // 2)
        advice = f"data.batch_size={half} train.grad_accum={recipe.train.grad_accum * 2} run.name=NAME"
        raise RunError(f"{run.path}: out of memory on the device; the same updates in less memory: {advice}") from None


@contextmanager
def _owned(run: RunFolder, version: RunVersion) -> Iterator[None]:
    """The run folder, made and locked; `version`: its stamp when it was looked at."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run.dir: {run.path} cannot be made: {error.strerror}") from None
    with run.lock():
        if run.version() != version:
            raise UserError(f"{run.path}: another process has worked on this run meanwhile; the same command continues it")
        yield


def open_data(recipe: Recipe, problems: list[str]) -> TrainingData:
    """Opens and checks the data; earlier `problems` with the recipe are reported together with those of the data."""
    try:
        if recipe.data.generate and recipe.data.root and not problems:
            draw_shapes(Path(recipe.data.root).expanduser(), recipe.data.generate)
        data = open_training_data(recipe.data, recipe.seed, recipe.model.num_classes)
    except UserError as error:
        raise UserError(*problems, *error.problems) from None
    if problems:
        raise UserError(*problems)
    train, val = check_images([data.train, data.val], recipe.data.bad_images, max_bad=recipe.data.max_bad)
    return TrainingData(train, val, data.classes)


def _open_session(recipe: Recipe, run: RunFolder, status: Status, stop: StopRequest) -> Session:
    device = dist.all_or_raise(lambda: _pick_device(recipe))
    problems = check_model(recipe.model, recipe.freeze, image_size=recipe.aug.size)
    data = dist.first_on_each_machine(lambda: open_data(recipe, problems))
    precision = precision_name(amp_dtype(recipe.train, device))
    dist.require_same({"train.device": device.type, "train.amp": precision, "data.root": f"files {data.fingerprint[:8]}"})
    if dist.is_main():
        say(describe_device(device))
    if dist.is_main() and (faults := describe_faults(data)):
        say(faults)

    def build() -> tuple[BatchLoader, Training]:
        loader = build_train_loader(data.train, recipe, device)
        assert data.train.labels is not None
        steps, labels = loader.num_batches, data.train.labels
        return loader, build_training(recipe, device, data.classes, labels, data.fingerprint, steps, load_weights=status == "new")

    train_loader, training = dist.all_or_raise(build)
    damaged: list[str] = []
    if status != "new":
        state, damaged = dist.run_on_rank0(lambda: read_checkpoint(run))
        dist.all_or_raise(lambda: continue_training(training, state, run, data))
    val_loader = dist.all_or_raise(lambda: build_eval_loader(data.val, recipe, device))
    train_loader.stop = val_loader.stop = stop
    training.join()
    return Session(training, run, data, train_loader, val_loader, stop, damaged=damaged)


def _pick_device(recipe: Recipe) -> torch.device:
    """The device; with it, what is wrong with its precision, and what several processes cannot do."""
    device = pick_device(recipe.train)
    amp_dtype(recipe.train, device)
    num = dist.world_size()
    if num > recipe.data.batch_size:
        raise UserError(f"data.batch_size: {num} processes cannot share {recipe.data.batch_size} images; start fewer, or raise it")
    if num > 1 and recipe.train.sync_bn and device.type != "cuda":
        raise UserError(f"train.sync_bn: torch has it for GPUs only, not for {num} processes on the {device.type}; set it to false")
    return device


def _start(session: Session, *, fresh: bool) -> None:
    """The first writes to the run folder: recipe, environment, samples, and the metrics up to the checkpoint."""
    run, training, data = session.run, session.training, session.data
    recipe, progress = training.recipe, training.progress
    start_folder(run, recipe, fresh=fresh)
    rows = run.read_metrics()
    session.rows = [row for row in rows if row["epoch"] <= progress.epoch]
    if len(session.rows) < len(rows):
        run.write_metrics(session.rows)
    if recipe.log.wandb != "off":
        session.wandb = WandbRun(recipe, run, training.wandb_id, progress.epoch)
        training.wandb_id = session.wandb.id
        for row in session.rows:  # what it lacks
            session.wandb.log(row)
    trained = sum(p.numel() for p in training.model.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in training.model.parameters())
    if fresh:
        facts = {
            "num_train": len(data.train),
            "num_val": len(data.val),
            "num_classes": data.classes.num_classes,
            "fingerprint": data.fingerprint,
            "num_parameters": parameters,
            "num_trained_parameters": trained,
            "precision": precision_name(amp_dtype(recipe.train, training.device)),
            "num_processes": dist.world_size(),
            "wandb_id": training.wandb_id,
        }
        run.write_json(run.env, {**describe_environment(device_name(training.device)), **facts})
        images, labels = session.train_loader.preview(24)
        save_figure(plot_samples(images, [data.classes.names[label] for label in labels]), run.samples)
    else:
        session.repair()
    say(
        f"{run.path}: {recipe.model.name}, {trained / 1e6:.1f} of {parameters / 1e6:.1f} M parameters trained, on "
        f"{_hardware(training.device)}; {len(data.train)} + {len(data.val)} images, {data.classes.num_classes} classes"
    )
    if not fresh:
        say(f"{run.path}: continues in epoch {progress.epoch + 1} at step {progress.step}")


def _hardware(device: torch.device) -> str:
    num = dist.world_size()
    return device_name(device) if num == 1 else f"{num} processes, each with {device_name(device)}"


def _train(session: Session) -> Row:
    training = session.training
    progress, config = training.progress, training.recipe.train
    stopped_early = False
    while progress.epoch < config.epochs and not stopped_early:
        train_epoch(session)
        started = time.perf_counter()
        predictions = validate_epoch(session)
        finish_epoch(session, predictions, time.perf_counter() - started)
        stopped_early = config.early_stop is not None and progress.epoch - progress.best_epoch >= config.early_stop
    session.save()
    return dist.run_on_rank0(lambda: finish_run(session, stopped_early=stopped_early))


def train_epoch(session: Session) -> None:
    """Trains the rest of the epoch under way; saves when it is due; after a signal saves and raises `Interrupted`."""
    training, loader = session.training, session.train_loader
    progress, recipe = training.progress, training.recipe
    if progress.step == loader.num_batches:  # was interrupted while validating
        return
    set_train_mode(training.model, recipe.freeze)
    started = time.perf_counter() - progress.epoch_seconds
    bar = tqdm(
        total=loader.num_batches, initial=progress.step, desc=f"epoch {progress.epoch + 1}/{recipe.train.epochs}",
        unit="batch", leave=False, disable=None, dynamic_ncols=True,
    )  # fmt: skip
    try:
        for batch in session.wait.over(loader.epoch(progress.epoch, progress.step)):
            if training.forward.is_about_to_compile:
                bar.set_postfix_str("compiling the step: once, kept for the next run")
            is_update = train_step(training, batch, loader)
            progress.epoch_seconds = time.perf_counter() - started
            progress.wait_seconds += session.wait.take()
            bar.update()
            if progress.step % recipe.log.every_steps == 0:
                loss, _ = session.running_means()
                rate = progress.step * recipe.data.batch_size / progress.epoch_seconds
                bar.set_postfix_str(f"loss {loss:.4f}, lr {training.schedule.lr:.1e}, {rate:.0f} img/s")
            if is_update:
                session.meet()
                session.stop_if_asked()
                session.save_if_due()
        session.look()
    except Exception as error:
        session.save_after(error)
        raise
    finally:
        bar.close()


def validate_epoch(session: Session) -> Predictions:
    training = session.training
    try:
        return evaluate(training.evaluated, session.val_loader, autocast=training.autocast, should_stop=session.meet, desc="validation")
    except Exception as error:
        session.save_after(error)
        if not is_out_of_memory(error):
            raise
        half = max(1, training.recipe.data.eval_batch_size // 2)
        raise RunError(f"{session.run.path}: out of memory on the device in validation; data.eval_batch_size={half} continues it") from None
