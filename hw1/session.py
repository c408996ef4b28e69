"""One process at work on a run: what it trains, where it reports to, and when and how it saves."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hw1.checkpoint import save_state, save_weights
from hw1.data.folders import TrainingData
from hw1.data.loaders import Loader
from hw1.data.wait import WORTH_ADVICE, DataWait, advice
from hw1.errors import Interrupted, RunError
from hw1.logs import Row, WandbRun, say
from hw1.plots import plot_curves, save_figure
from hw1.runs import RunFolder
from hw1.training import Training

CURVES_EVERY_SECONDS = 30.0  # a picture takes a third of a second: too much after each epoch of a few seconds


@dataclass
class Session:
    training: Training
    run: RunFolder
    data: TrainingData
    train_loader: Loader
    val_loader: Loader
    stop: Callable[[], int | None]
    """Returns the signal by which the process was asked to stop, or None."""
    rows: list[Row] = field(default_factory=list)
    """One record per finished epoch."""
    wandb: WandbRun | None = None
    saved_at: float = field(default_factory=time.monotonic)
    drawn_at: float = 0.0
    wait: DataWait = field(init=False)

    def __post_init__(self) -> None:
        self.wait = DataWait(self.training.device)

    def close(self) -> None:
        """Ends loader processes and the wandb client."""
        self.train_loader.close()
        self.val_loader.close()
        if self.wandb:
            self.wandb.stop()
            self.wandb = None

    def running_means(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far; waits for the device. `RunError` if the loss is not finite."""
        loss, correct, count = self.training.sums.tolist()
        if not math.isfinite(loss):
            progress = self.training.progress
            raise RunError(
                f"{self.run.path}: the training loss is not finite in epoch {progress.epoch + 1}, at or before step "
                f"{progress.step}; nothing was saved since. Try a lower optim.lr, optim.clip_grad=1.0 or train.amp=off"
            )
        return loss / max(count, 1), correct / max(count, 1)

    def save(self) -> None:
        """Saves `last`, and `best` where this very state is the best one.

        `last` comes first: a process killed between the two finds on resume that `best` is owed.
        """
        self.running_means()  # never a broken state over a good one
        save_state(self.run.last, self.training.state_dict())
        if self.is_best:
            self.save_best()
        self.saved_at = time.monotonic()

    @property
    def is_best(self) -> bool:
        """Whether the weights at hand are those of the best epoch."""
        progress = self.training.progress
        return progress.step == 0 and 0 < progress.epoch == progress.best_epoch

    def save_best(self) -> None:
        """Saves the validated weights with what is needed to use them: class names, and the result they had."""
        progress = self.training.progress
        meta = {
            "classes": list(self.training.classes.names),
            "epoch": progress.best_epoch,
            "val_top1": progress.best_top1,
            "val_loss": progress.best_loss,
        }
        save_weights(self.run.best, self.training.evaluated.state_dict(), meta)

    def save_if_due(self) -> None:
        """Saves by the recipe's clock and step count; call only between optimizer steps."""
        config = self.training.recipe.checkpoint
        by_steps = config.every_steps is not None and self.training.progress.updates % config.every_steps == 0
        if by_steps or time.monotonic() - self.saved_at >= config.every_minutes * 60:
            self.save()

    def stop_if_asked(self) -> None:
        """After a signal: saves and raises `Interrupted`; call only between optimizer steps."""
        signum = self.stop()
        if signum is not None:
            self.save()
            progress = self.training.progress
            at = f"epoch {progress.epoch + 1}, step {progress.step}"
            raise Interrupted(signum, f"{self.run.path}: interrupted, saved at {at}; the same command continues it")

    def advise(self) -> None:
        """After an epoch, once a run: says how to shorten the device's waiting for data, if it was long."""
        *earlier, last = (row.get("data_wait", 0.0) for row in self.rows)  # rows of older versions have none
        if last > WORTH_ADVICE and max(earlier, default=0.0) <= WORTH_ADVICE:
            training = self.training
            if remedies := advice(training.recipe.data, training.device):
                say(f"{self.run.path}: {last:.0%} of the epoch went by in waiting for images; {remedies} would shorten that")

    def draw_curves(self, *, force: bool = False) -> None:
        """Redraws `curves.png`, unless that was done a moment ago."""
        if force or time.monotonic() - self.drawn_at > CURVES_EVERY_SECONDS:
            save_figure(plot_curves(self.rows), self.run.curves)
            self.drawn_at = time.monotonic()
