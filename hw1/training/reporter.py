"""What is told of a run beside its checkpoints: console, curves, trackers. None of it can end the run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hw1.config.recipe import Recipe
from hw1.data.image_set import TrainingData
from hw1.data.loader.loader import Loader
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder
from hw1.runs.step_metrics import StepMetrics, append_step, keep_steps
from hw1.tracking.content import describe_content
from hw1.tracking.names import epoch_scalars, step_scalars
from hw1.tracking.start import has_trackers, open_trackers
from hw1.tracking.tracker import At, Trackers
from hw1.training.data_time import WORTH_ADVICE
from hw1.training.lr_schedule import updates_per_epoch
from hw1.training.progress import Progress
from hw1.training.train_state import TrainState
from hw1.utils.console import say
from hw1.utils.text import one_line

if TYPE_CHECKING:
    from hw1.training.media import Media

CURVES_EVERY_SECONDS = 30.0  # a figure takes a third of a second: too much after each epoch of a few seconds

ADVICE_FROM_SECONDS = 30.0
"""Epochs shorter than this get no advice: starting the loading takes most of their waiting."""


class Reporter:
    """Tell of a run. Only rank 0's speaks: the others are not started.

    Args:
        run: The run folder.
        recipe: The recipe.
        rows: Metrics of the epochs so far; the trainer appends to them.
        num_batches: Of an epoch; None where nobody knows.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, rows: Sequence[EpochMetrics], num_batches: int | None = None) -> None:
        self.run, self.recipe, self.rows, self._num_batches = run, recipe, rows, num_batches
        self._trackers = Trackers(run.path, {})
        self._media: Media | None = None
        self._steps_per_epoch = 0
        self._last_step = 0
        self._media_epoch = 0
        self._curves_drawn_at = 0.0

    def start(self, state: TrainState, data: TrainingData, facts: Mapping[str, Any]) -> str | None:
        """Start the run's trackers, or continue them with all that was told so far.

        Args:
            state: The run's state.
            data: The run's data.
            facts: What the recipe came to on this machine.

        Returns:
            Id of the run in wandb, None without it.
        """
        log, progress = self.recipe.log, state.progress
        if not has_trackers(log):
            return state.wandb_id

        from hw1.training.media import Media  # takes a second to import, like all that draws: only where it is asked for

        self._steps_per_epoch = updates_per_epoch(self.recipe.train, state.steps_per_epoch)
        self._media = Media(self.run, state, data)
        content = describe_content(
            log,
            epochs=self.recipe.train.epochs,
            steps_per_epoch=state.steps_per_epoch,
            weight_bytes=sum(value.nbytes for value in state.evaluated.state_dict().values()),
        )
        self._trackers = open_trackers(self.recipe, self.run, At(progress.updates, progress.epoch), state.wandb_id, facts, content)
        wandb_id = self._trackers.id_of("wandb") or state.wandb_id
        with self._going_on("trackers"):
            self._media.send_data(self._trackers)
            self._tell_again(keep_steps(self.run, progress.updates))
        return wandb_id

    def show_samples(self, loader: Loader, names: Sequence[str]) -> None:
        """Draw the first training images as the model gets them, under their class names."""
        from hw1.plots import plot_samples, save_figure

        images, labels = loader.preview(24)
        with self._going_on(self.run.samples.name):
            save_figure(plot_samples(images, [names[label] for label in labels]), self.run.samples)
            if self._media:
                self._media.send_samples(self._trackers)

    def end_step(self, row: StepMetrics) -> None:
        """Tell trackers of a step, once."""
        if self._trackers and row["step"] > self._last_step:
            self._last_step = row["step"]
            with self._going_on(self.run.steps_jsonl.name):
                append_step(self.run, row)
            self._trackers.scalars(step_scalars(row), At(row["step"]))

    def end_epoch(self, advice: Callable[[], str | None], progress: Progress) -> None:
        """Tell of the last epoch in `rows`, beside its line on the console.

        Args:
            advice: Returns settings that would shorten the waiting for data, if there are any.
            progress: Of the run, after the epoch.
        """
        row = self.rows[-1]
        self._advise(advice)
        if self._trackers:
            self._trackers.scalars(epoch_scalars(row), self._at(row))
            self._trackers.summary(
                {
                    **{key: getattr(progress, key) for key in ("best_epoch", "best_top1", "best_loss")},
                    "duration_seconds": progress.seconds,
                }
            )
            if row["epoch"] % self.recipe.log.media_every == 0:
                self._send_media()
        if time.monotonic() - self._curves_drawn_at > CURVES_EVERY_SECONDS:
            self._draw_curves()

    def end_run(self, summary: Mapping[str, Any]) -> None:
        """Draw the last curves and finish the trackers."""
        self._draw_curves(stopped_early=bool(summary["stopped_early"]))
        if self._media and self._media_epoch < self.rows[-1]["epoch"]:
            self._send_media()
        self._trackers.summary({key: value for key, value in summary.items() if key != "seconds"})
        self._finish(failed=False)

    def close(self) -> None:
        """End the trackers without calling the run finished."""
        self._finish(failed=True)

    def _tell_again(self, steps: Sequence[StepMetrics]) -> None:
        """Give the trackers all that the run folder has, in the order in which it came."""
        steps_left = list(steps)
        for row in self.rows:
            at = self._at(row)
            while steps_left and steps_left[0]["step"] <= at.step:
                self._trackers.scalars(step_scalars(steps_left[0]), At(steps_left.pop(0)["step"]))
            self._trackers.scalars(epoch_scalars(row), at)
        for step in steps_left:
            self._trackers.scalars(step_scalars(step), At(step["step"]))
        self._last_step = max((row["step"] for row in steps), default=0)

    def _at(self, row: EpochMetrics) -> At:
        return At(row["epoch"] * self._steps_per_epoch, row["epoch"])

    def _send_media(self) -> None:
        assert self._media is not None
        with self._going_on("trackers: images and tables"):
            self._media_epoch = self.rows[-1]["epoch"]
            self._media.send_validation(self._trackers, self._at(self.rows[-1]))

    def _finish(self, *, failed: bool) -> None:
        if self._trackers and self._media:
            with self._going_on("trackers: model"):
                self._media.send_model(self._trackers)
        self._trackers.finish(failed=failed)

    def _advise(self, advice: Callable[[], str | None]) -> None:
        """Say once a run how to shorten the waiting for data, if it was long, and epochs are not a matter of seconds."""
        *earlier, last = (row.get("data_wait", 0.0) if row["seconds"] >= ADVICE_FROM_SECONDS else 0.0 for row in self.rows)
        if last > WORTH_ADVICE and max(earlier, default=0.0) <= WORTH_ADVICE and (settings := advice()):
            say(f"{self.run.path}: {last:.0%} of the epoch went by in waiting for images; {settings} would shorten that")

    def _draw_curves(self, *, stopped_early: bool = False) -> None:
        from hw1.plots import save_figure
        from hw1.training.curves import draw_curves

        with self._going_on(self.run.curves.name):
            save_figure(draw_curves(self.recipe, self.rows, self._num_batches, stopped_early=stopped_early), self.run.curves)
        self._curves_drawn_at = time.monotonic()

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Say what went wrong in the block, and go on."""
        try:
            yield
        except Exception as error:  # whatever a tracker or a plot raises: it is no reason not to train
            say(f"{self.run.path}: {what}: {one_line(error)}; training goes on without")
