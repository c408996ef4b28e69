"""The metrics of one epoch."""

from hw1.runs.wandb_logger import Row


def format_row(row: Row, epochs: int) -> str:
    """One epoch as one line."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  train loss {row['train_loss']:.4f} acc {row['train_acc']:.4f}"
        f"  val loss {row['val_loss']:.4f} top1 {row['val_top1']:.4f} top5 {row['val_top5']:.4f}"
        f"  lr {row['lr']:.2e}  {row['images_per_second']:.0f} img/s  wait {row['data_wait']:.0%}  {row['seconds']:.0f} s"
    )
