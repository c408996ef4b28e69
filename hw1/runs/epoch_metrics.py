"""The metrics of one epoch: a line of `metrics.jsonl`, a row of `metrics.csv`, a line on the console."""

from typing import NotRequired, TypedDict


class EpochMetrics(TypedDict):
    """The metrics. Losses are in nats, accuracies and fractions 0-1, times in seconds."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_acc: float
    """With Mixup, against the label with the larger weight."""
    val_loss: float
    val_top1: float
    val_top5: float
    val_macro_f1: NotRequired[float]
    """Where `train.best_by` names it, as the next."""
    val_balanced_accuracy: NotRequired[float]
    lr: float
    images_per_second: float
    """In training, without validation."""
    data_wait: float
    """Fraction of the training time in which the device waited for images. Rows of early versions lack it."""
    seconds: float
    """Of training and validation."""


def format_epoch(row: EpochMetrics, epochs: int) -> str:
    """Format the metrics as one line; `epochs` is the number of epochs of the run."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  train loss {row['train_loss']:.4f} acc {row['train_acc']:.4f}"
        f"  val loss {row['val_loss']:.4f} top1 {row['val_top1']:.4f} top5 {row['val_top5']:.4f}"
        f"  lr {row['lr']:.2e}  {row['images_per_second']:.0f} img/s  wait {row['data_wait']:.0%}  {row['seconds']:.0f} s"
    )
