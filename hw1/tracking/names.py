"""What trackers call the numbers of a run: in groups, each a section of the dashboard. `metrics.csv` keeps its own names."""

from typing import Literal

from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.step_metrics import StepMetrics

EPOCH_NAMES = {
    "train_loss": "train/loss",
    "train_acc": "train/accuracy",
    "val_loss": "val/loss",
    "val_top1": "val/top1",
    "val_top5": "val/top5",
    "val_macro_f1": "val/macro_f1",
    "val_balanced_accuracy": "val/balanced_accuracy",
    "images_per_second": "perf/images_per_second",
    "data_wait": "perf/data_wait",
    "seconds": "perf/epoch_seconds",
}
"""By key of `EpochMetrics`; its learning rate is a curve over steps."""
STEP_NAMES = {"loss": "train/loss_step", "lr": "lr", "grad_norm": "grad_norm"}
"""By key of `StepMetrics`."""
BEST: dict[str, Literal["max", "min"]] = {
    "train/loss": "min",
    "train/accuracy": "max",
    "val/loss": "min",
    "val/top1": "max",
    "val/top5": "max",
    "val/macro_f1": "max",
    "val/balanced_accuracy": "max",
}
"""Which value of a curve stands for the run."""


def epoch_scalars(row: EpochMetrics) -> dict[str, float]:
    """Return the numbers of an epoch by their names in trackers."""
    return {name: float(row[key]) for key, name in EPOCH_NAMES.items() if key in row}  # type: ignore[literal-required]


def step_scalars(row: StepMetrics) -> dict[str, float]:
    """Return the numbers of a step by their names in trackers."""
    return {name: float(row[key]) for key, name in STEP_NAMES.items() if key in row}  # type: ignore[literal-required]
