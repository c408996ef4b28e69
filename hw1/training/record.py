"""What is written down and told of each epoch, and of the run when it is over."""

from hw1.evaluation.metrics import summarize
from hw1.evaluation.predictions import Predictions
from hw1.runs.wandb_logger import Row
from hw1.runtime import distributed as dist
from hw1.training.checkpointer import Session
from hw1.training.metrics_row import format_row
from hw1.utils.console import say


def finish_epoch(session: Session, predictions: Predictions, val_seconds: float) -> None:
    """Records the epoch, then saves: a row beyond the checkpoint is dropped on resume, a missing one could not be made."""
    training = session.training
    progress, recipe = training.progress, training.recipe
    means = session.running_means()
    progress.wait_seconds += session.wait.take()
    row = dist.run_on_rank0(lambda: _row(session, means, predictions, val_seconds))
    if dist.is_main():
        _record(session, row, predictions)
    training.schedule.after_epoch(row["val_loss"])
    improved = (row["val_top1"], -row["val_loss"]) > (progress.best_top1, -progress.best_loss)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.seconds += row["seconds"]
    progress.epoch_seconds = progress.wait_seconds = 0.0
    training.sums.zero_()
    training.guard.keep()
    if improved:
        progress.best_epoch, progress.best_top1, progress.best_loss = progress.epoch, row["val_top1"], row["val_loss"]
    if improved or row["seconds"] >= recipe.checkpoint.every_minutes * 60 / 5:
        session.save()
    if dist.is_main():
        session.draw_curves()


def _row(session: Session, means: tuple[float, float], predictions: Predictions, val_seconds: float) -> Row:
    """The numbers of the epoch under way."""
    progress = session.training.progress
    val = summarize(predictions.logits, predictions.labels)
    return {
        "epoch": progress.epoch + 1,
        "train_loss": means[0],
        "train_acc": means[1],
        "val_loss": val["loss"],
        "val_top1": val["top1"],
        "val_top5": val["top5"],
        "lr": session.training.schedule.lr,
        "images_per_second": session.train_loader.num_samples / max(progress.epoch_seconds, 1e-9),
        "data_wait": min(progress.wait_seconds / max(progress.epoch_seconds, 1e-9), 1.0),
        "seconds": progress.epoch_seconds + val_seconds,
    }


def _record(session: Session, row: Row, predictions: Predictions) -> None:
    session.rows.append(row)
    session.run.write_metrics(session.rows)
    predictions.save(session.run.val_predictions, files=session.data.val.files, class_names=session.training.classes.names)
    say(format_row(row, session.training.recipe.train.epochs))
    session.advise()
    if session.wandb:
        session.wandb.log(row)


def finish_run(session: Session, *, stopped_early: bool) -> Row:
    """Waits for the last checkpoint, then writes the summary, which makes the run a finished one; returns it."""
    progress = session.training.progress
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
