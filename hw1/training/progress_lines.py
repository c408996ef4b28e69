"""What the console shows of the epochs: a bar on a terminal, a line now and then without one, and the time left of the whole run."""

import time
from collections.abc import Sequence

from hw1.runs.epoch_metrics import EpochMetrics, format_epoch
from hw1.training.train_state import TrainState
from hw1.utils.console import say
from hw1.utils.progress_bar import ProgressBar
from hw1.utils.text import format_seconds

LINE_EVERY_SECONDS = 30.0
"""Least time between two lines about steps."""


class ProgressLines:
    """Tell how far a run is. Only rank 0's is seen.

    Args:
        state: The run's state.
        rows: Metrics of the epochs so far; the trainer appends to them.
    """

    def __init__(self, state: TrainState, rows: Sequence[EpochMetrics]) -> None:
        self._state, self._rows = state, rows
        self._bar: ProgressBar | None = None
        self._first: tuple[int, float] | None = None
        """Steps and seconds of the epoch at the end of this process' first step of it, which compiles and starts the loading."""
        self._told_at: float | None = None

    def begin_epoch(self) -> ProgressBar:
        """Return the bar of the epoch under way, which is shown on a terminal only."""
        self._first = None
        step, total = self._state.progress.step, self._state.steps_per_epoch
        self._bar = ProgressBar(total=total, initial=step, desc=self._title(), unit="batch", leave=False)
        return self._bar

    def count_step(self) -> None:
        """Move the bar on. Without one, say in a line that the first step of this process is done."""
        assert self._bar is not None
        progress = self._state.progress
        self._first = self._first or (progress.step, progress.epoch_seconds)
        self._bar.update()
        if self._bar.disable and self._told_at is None:
            has_loss = self._state.device.type == "cpu"  # elsewhere reading it would wait for the device
            self._say_step(self._state.sums[0].item() / max(self._state.sums[2].item(), 1) if has_loss else None)

    def show_loss(self, loss: float) -> None:
        """Show the mean loss of the epoch so far, on the bar, or in a line if the last one is half a minute old."""
        assert self._bar is not None
        if not self._bar.disable:
            self._bar.set_postfix_str(", ".join(self._facts(loss)))
        elif self._told_at is None or time.monotonic() - self._told_at >= LINE_EVERY_SECONDS:
            self._say_step(loss)

    def end_epoch(self, row: EpochMetrics, *, is_best: bool) -> None:
        """Say the metrics of a finished epoch in one line, with a mark if it is the best so far, and the time left."""
        left = self.seconds_left()
        parts = [format_epoch(row, self._state.recipe.train.epochs), "* new best" * is_best, f"left {format_seconds(left)}" if left else ""]
        say("  ".join(filter(None, parts)))

    def seconds_left(self) -> float | None:
        """Estimate how long the rest of the run takes; None while nothing is known."""
        progress, total = self._state.progress, self._state.steps_per_epoch
        if self._rows:  # the first epoch may have compiled
            per_epoch = min(row["seconds"] for row in self._rows[-2:])
        elif self._first and progress.step > self._first[0]:
            per_epoch = (progress.epoch_seconds - self._first[1]) / (progress.step - self._first[0]) * total
        else:
            return None
        return max(self._state.recipe.train.epochs - progress.epoch - progress.step / total, 0.0) * per_epoch

    def _say_step(self, loss: float | None) -> None:
        self._told_at = time.monotonic()
        say("  ".join([self._title(), f"step {self._state.progress.step}/{self._state.steps_per_epoch}", *self._facts(loss)]))

    def _facts(self, loss: float | None) -> list[str]:
        progress, recipe = self._state.progress, self._state.recipe
        steps, seconds = self._first or (0, 0.0)
        if progress.step == steps:
            steps, seconds = 0, 0.0
        rate = (progress.step - steps) * recipe.data.batch_size / max(progress.epoch_seconds - seconds, 1e-9)
        left = self.seconds_left()
        return [
            *([] if loss is None else [f"loss {loss:.4f}"]),
            f"lr {self._state.schedule.lr:.1e}",
            f"{rate:.0f} img/s",
            *([] if left is None else [f"left {format_seconds(left)}"]),
        ]

    def _title(self) -> str:
        return f"epoch {self._state.progress.epoch + 1}/{self._state.recipe.train.epochs}"
