"""What is told of a run beside its checkpoints: console, curves, wandb. None of it can end the run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hw1.config.recipe import Recipe
from hw1.data.loader.loader import Loader
from hw1.errors import UserError
from hw1.plots import plot_samples, save_figure
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder
from hw1.runs.wandb_logger import WandbRun
from hw1.training.curves import draw_curves
from hw1.training.data_time import WORTH_ADVICE
from hw1.utils.console import say
from hw1.utils.text import one_line

CURVES_EVERY_SECONDS = 30.0  # a figure takes a third of a second: too much after each epoch of a few seconds

ADVICE_FROM_SECONDS = 30.0
"""Epochs shorter than this get no advice: starting the loading takes most of their waiting."""


class Reporter:
    """Tell of a run. Only rank 0 has one.

    Args:
        run: The run folder.
        recipe: The recipe.
        rows: Metrics of the epochs so far; the trainer appends to them.
        num_batches: Of an epoch; None where nobody knows.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, rows: Sequence[EpochMetrics], num_batches: int | None = None) -> None:
        self.run, self.recipe, self.rows, self._num_batches = run, recipe, rows, num_batches
        self._wandb: WandbRun | None = None
        self._curves_drawn_at = 0.0

    def start(self, wandb_id: str | None) -> str | None:
        """Start or continue the run's wandb run, with the epochs so far; return its id, None without wandb."""
        if self.recipe.log.wandb == "off":
            return None
        with self._going_on("wandb"):
            self._wandb = WandbRun(self.recipe, self.run, wandb_id)
            for row in self.rows:
                self._wandb.log(row)
        return self._wandb.id if self._wandb else wandb_id

    def show_samples(self, loader: Loader, names: Sequence[str]) -> None:
        """Draw the first training images as the model gets them, under their class names."""
        images, labels = loader.preview(24)
        with self._going_on(self.run.samples.name):
            save_figure(plot_samples(images, [names[label] for label in labels]), self.run.samples)

    def end_epoch(self, advice: Callable[[], str | None]) -> None:
        """Tell of the last epoch in `rows`, beside its line on the console.

        Args:
            advice: Returns settings that would shorten the waiting for data, if there are any.
        """
        row = self.rows[-1]
        self._advise(advice)
        if self._wandb:
            with self._going_on("wandb"):
                self._wandb.log(row)
        if time.monotonic() - self._curves_drawn_at > CURVES_EVERY_SECONDS:
            self._draw_curves()

    def end_run(self, summary: Mapping[str, Any]) -> None:
        """Draw the last curves and finish the wandb run."""
        self._draw_curves(stopped_early=bool(summary["stopped_early"]))
        if self._wandb:
            with self._going_on("wandb"):
                self._wandb.finish(summary, {"curves": self.run.curves, "samples": self.run.samples})
            self._wandb = None

    def close(self) -> None:
        """End the wandb client without calling the run finished."""
        if self._wandb:
            with self._going_on("wandb"):
                self._wandb.stop()
            self._wandb = None

    def _advise(self, advice: Callable[[], str | None]) -> None:
        """Say once a run how to shorten the waiting for data, if it was long, and epochs are not a matter of seconds."""
        *earlier, last = (row.get("data_wait", 0.0) if row["seconds"] >= ADVICE_FROM_SECONDS else 0.0 for row in self.rows)
        if last > WORTH_ADVICE and max(earlier, default=0.0) <= WORTH_ADVICE and (settings := advice()):
            say(f"{self.run.path}: {last:.0%} of the epoch went by in waiting for images; {settings} would shorten that")

    def _draw_curves(self, *, stopped_early: bool = False) -> None:
        with self._going_on(self.run.curves.name):
            save_figure(draw_curves(self.recipe, self.rows, self._num_batches, stopped_early=stopped_early), self.run.curves)
        self._curves_drawn_at = time.monotonic()

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Say what went wrong in the block, and go on."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # whatever a tracker or a plot raises: it is no reason not to train
            say(f"{self.run.path}: {what}: {one_line(error)}; training goes on without")
            if what == "wandb":
                self._wandb = None
