"""The training loop: fit -> train_epoch -> train_step."""

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hw1.config import Recipe
from hw1.data.batch import Batch, BatchLoader
from hw1.data.decode import check_images
from hw1.data.demo import draw_shapes
from hw1.data.folders import TrainingData, open_training_data
from hw1.data.loaders import build_eval_loader, build_train_loader
from hw1.data.quickcheck import describe_faults
from hw1.data.workers import limit_threads
from hw1.device import amp_dtype, describe_device, device_name, pick_device, precision_name, set_determinism
from hw1.environment import describe_environment
from hw1.errors import Interrupted, RunError, UserError
from hw1.evaluate import Predictions, evaluate
from hw1.finite import average_unless, step_unless
from hw1.interrupt import StopRequest
from hw1.logs import Row, WandbRun, format_row, say
from hw1.losses import dominant_label
from hw1.metrics import summarize
from hw1.models.build import check_model
from hw1.models.freeze import set_train_mode
from hw1.plots import plot_samples, save_figure
from hw1.runs import RunFolder, Status, start_folder
from hw1.session import Session, continue_training
from hw1.training import Training, build_training


def fit(recipe: Recipe, run: RunFolder, status: Status) -> Row:
    """Trains the recipe in the run folder, from the start or from where it was interrupted; returns the summary.

    Raises `UserError` before anything is written to the folder, `RunError` if training fails, and after SIGINT or
    SIGTERM, with the state saved, `Interrupted`.
    """
    set_determinism(recipe.train.deterministic)
    limit_threads()
    stop = StopRequest()
    session = _open_session(recipe, run, status, stop)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run.dir: {run.path} cannot be made: {error.strerror}") from None
    with run.lock(), stop.listening():
        try:
            _start(session, fresh=status == "new")
            return _train(session)
        except torch.OutOfMemoryError:
            half = max(1, recipe.data.batch_size // 2)
            advice = f"data.batch_size={half} train.grad_accum={recipe.train.grad_accum * 2} run.name=NAME"
            raise RunError(f"{run.path}: out of memory on the device; the same updates in less memory: {advice}") from None
        finally:
            session.close()


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
    device = pick_device(recipe.train)
    data = open_data(recipe, check_model(recipe.model, recipe.freeze, image_size=recipe.aug.size))
    say(describe_device(device))
    if faults := describe_faults(data):
        say(faults)
    train_loader = build_train_loader(data.train, recipe, device)
    steps = train_loader.num_batches
    assert data.train.labels is not None
    labels = data.train.labels
    training = build_training(recipe, device, data.classes, labels, data.fingerprint, steps, load_weights=status == "new")
    damaged: list[str] = []
    if status != "new":
        damaged = continue_training(training, run, data)
    return Session(training, run, data, train_loader, build_eval_loader(data.val, recipe, device), stop, damaged=damaged)


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
            "wandb_id": training.wandb_id,
        }
        run.write_json(run.env, {**describe_environment(device_name(training.device)), **facts})
        images, labels = session.train_loader.preview(24)
        save_figure(plot_samples(images, [data.classes.names[label] for label in labels]), run.samples)
        torch.manual_seed(recipe.seed)  # dropout's draws must not depend on what was drawn to build the model
    else:
        session.repair()
    say(
        f"{run.path}: {recipe.model.name}, {trained / 1e6:.1f} of {parameters / 1e6:.1f} M parameters trained, on "
        f"{device_name(training.device)}; {len(data.train)} + {len(data.val)} images, {data.classes.num_classes} classes"
    )
    if not fresh:
        say(f"{run.path}: continues in epoch {progress.epoch + 1} at step {progress.step}")


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
    session.writer.wait()
    session.draw_curves(force=True)
    summary: Row = {
        "epochs": progress.epoch,
        "stopped_early": stopped_early,
        "best_epoch": progress.best_epoch,
        "best_top1": progress.best_top1,
        "best_loss": progress.best_loss,
        "last_top1": session.rows[-1]["val_top1"],
        "last_loss": session.rows[-1]["val_loss"],
        "seconds": progress.seconds,
        "saving_seconds": session.saving_seconds,
    }
    if session.wandb:
        session.wandb.finish(summary, {"curves": session.run.curves, "samples": session.run.samples})
        session.wandb = None
    session.run.write_json(session.run.summary, summary)
    return summary


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
    is_update = True
    try:
        for batch in session.wait.over(loader.epoch(progress.epoch, progress.step)):
            is_update = train_step(training, batch, loader)
            progress.epoch_seconds = time.perf_counter() - started
            progress.wait_seconds += session.wait.take()
            bar.update()
            if progress.step % recipe.log.every_steps == 0:
                loss, _ = session.running_means()
                rate = progress.step * recipe.data.batch_size / progress.epoch_seconds
                bar.set_postfix_str(f"loss {loss:.4f}, lr {training.schedule.lr:.1e}, {rate:.0f} img/s")
            if is_update:
                session.stop_if_asked()
                session.save_if_due()
        session.look()
    except RunError:
        if is_update:  # a signal to the whole process group ends the loader's workers too
            session.stop_if_asked()
        raise
    finally:
        bar.close()


def train_step(training: Training, batch: Batch, loader: BatchLoader) -> bool:
    """One batch forward and backward; returns whether it also completed an optimizer step.

    Within an optimizer step each image weighs the same, also where the last batch is smaller.
    """
    progress, accum = training.progress, training.recipe.train.grad_accum
    first = progress.step - progress.step % accum
    if progress.step == first:
        training.guard.begin(training.mark())
    window = range(first, min(first + accum, loader.num_batches))
    share = len(batch.label) / sum(loader.batch_size_of(step) for step in window)
    images, targets = batch.image, batch.label
    if training.mixup:
        images, targets = training.mixup(images, targets, epoch=progress.epoch, step=progress.step)
    with training.autocast():
        logits = training.forward(images)
    loss = training.loss(logits.float(), targets)
    training.scaler.scale(training.guard.weigh(loss, batch.index, share)).backward()
    _add_to_sums(training.sums, loss.detach(), logits.detach(), targets)
    progress.step += 1
    is_update = progress.step == window.stop
    if is_update:
        update(training)
    return is_update


def update(training: Training) -> None:
    """One optimizer step from the gradients at hand, at the schedule's learning rate; none where they or the loss are not finite."""
    training.schedule.before_step(training.progress.updates)
    clip, scaler = training.recipe.optim.clip_grad, training.scaler
    norm: Tensor | None = None
    if clip is not None:
        scaler.unscale_(training.optimizer)
        norm = nn.utils.clip_grad_norm_(training.model.parameters(), clip)
    elif not scaler.is_enabled():
        norm = nn.utils.get_total_norm([p.grad for p in training.model.parameters() if p.grad is not None])
    training.guard.judge(None if scaler.is_enabled() else norm)
    if scaler.is_enabled():
        scaler.step(training.optimizer)
        scaler.update()
    else:
        step_unless(training.guard.bad, training.optimizer)
    training.optimizer.zero_grad(set_to_none=True)
    training.progress.updates += 1
    if training.ema:
        average_unless(training.guard.bad, training.ema.module, training.model, training.ema.get_decay(training.progress.updates))


def _add_to_sums(sums: Tensor, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
    correct = (logits.argmax(1) == dominant_label(targets)).sum()
    count = len(logits)
    sums += torch.stack([loss.to(sums.dtype) * count, correct.to(sums.dtype), torch.full_like(sums[0], count)])


def validate_epoch(session: Session) -> Predictions:
    training = session.training
    try:
        return evaluate(training.evaluated, session.val_loader, autocast=training.autocast, should_stop=session.stop, desc="validation")
    except (Interrupted, RunError):
        session.stop_if_asked()
        raise


def finish_epoch(session: Session, predictions: Predictions, val_seconds: float) -> None:
    """Records the epoch, then saves: a row beyond the checkpoint is dropped on resume, a missing one could not be made."""
    training, run = session.training, session.run
    progress, recipe = training.progress, training.recipe
    train_loss, train_acc = session.running_means()
    progress.wait_seconds += session.wait.take()
    val = summarize(predictions.logits, predictions.labels)
    row: Row = {
        "epoch": progress.epoch + 1,
        "train_loss": train_loss,
        "train_acc": train_acc,
        "val_loss": val["loss"],
        "val_top1": val["top1"],
        "val_top5": val["top5"],
        "lr": training.schedule.lr,
        "images_per_second": session.train_loader.num_samples / max(progress.epoch_seconds, 1e-9),
        "data_wait": min(progress.wait_seconds / max(progress.epoch_seconds, 1e-9), 1.0),
        "seconds": progress.epoch_seconds + val_seconds,
    }
    session.rows.append(row)
    run.write_metrics(session.rows)
    predictions.save(run.val_predictions, files=session.data.val.files, class_names=training.classes.names)
    say(format_row(row, recipe.train.epochs))
    session.advise()
    if session.wandb:
        session.wandb.log(row)
    training.schedule.after_epoch(val["loss"])
    improved = (val["top1"], -val["loss"]) > (progress.best_top1, -progress.best_loss)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.seconds += row["seconds"]
    progress.epoch_seconds = progress.wait_seconds = 0.0
    training.sums.zero_()
    training.guard.keep()
    if improved:
        progress.best_epoch, progress.best_top1, progress.best_loss = progress.epoch, val["top1"], val["loss"]
    if improved or row["seconds"] >= recipe.checkpoint.every_minutes * 60 / 5:
        session.save()
    session.draw_curves()
