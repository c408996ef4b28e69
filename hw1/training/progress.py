"""How far a run is."""

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is; plain numbers only."""

    epoch: int = 0
    """Epochs trained and validated."""
    step: int = 0
    """Batches done of the epoch under way."""
    updates: int = 0
    """Optimizer steps in all."""
    epoch_seconds: float = 0.0
    """Training time of the epoch under way."""
    wait_seconds: float = 0.0
    """The part of it in which the device waited for data."""
    seconds: float = 0.0
    """Training and validation time of all finished epochs."""
    best_epoch: int = 0
    best_top1: float = -1.0
    best_loss: float = float("inf")
    best_score: float = float("-inf")
    """Of the best epoch, by `train.best_by`; higher is better."""
    stale_epochs: int = 0
    """Epochs since the score last rose; `train.early_stop` counts these."""
    told_loss: float = 0.0
    """The part of the epoch's summed loss that the trackers' step curve has."""
    told_images: float = 0.0
    """Of so many images."""

    @property
    def is_best(self) -> bool:
        """Whether the weights at hand are those of the best epoch."""
        return self.step == 0 and 0 < self.epoch == self.best_epoch
