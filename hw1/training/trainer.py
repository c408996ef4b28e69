"""The training loop: `Trainer.train` shows all of it."""

import math
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch

from hw1.config.recipe import Recipe, step_images
from hw1.errors import Interrupted, RunError, collect_as_usual
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.metrics import class_averages, summarize
from hw1.evaluation.predictions import Predictions
from hw1.models.freeze import set_train_mode
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder, RunVersion, Status
from hw1.runs.status import require_metrics, start_folder
from hw1.runs.step_metrics import StepMetrics
from hw1.runtime import distributed as dist
from hw1.runtime.device import is_out_of_memory
from hw1.tracking.start import has_trackers
from hw1.training.data_time import DataTimer, advice
from hw1.training.overview import describe_run
from hw1.training.progress_lines import ProgressLines
from hw1.training.reporter import Reporter
from hw1.training.setup import Parts, build_parts, locked_run, note_environment, prepare_process, resolved_facts
from hw1.training.stop_and_save import StopAndSave
from hw1.training.time_limit import TimeLimit
from hw1.training.train_step import train_step
from hw1.utils.console import say
from hw1.utils.signals import StopRequest
from hw1.utils.text import some_of

CLASS_AVERAGES = ("macro_f1", "balanced_accuracy")
"""Values of `train.best_by` that need scikit-learn, and are measured only where they are named."""
NUM_NAMED = 256  # images that a message names before it counts the rest


def fit(
    recipe: Recipe,
    run: RunFolder,
    status: Status,
    version: RunVersion,
    notes: Sequence[str] = (),
    *,
    overwrite: bool = False,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Train the recipe in the run folder, from the start or from where it was interrupted.

    Several processes (`hw1.runtime.distributed`) call it together; only rank 0 reads and writes the folder.

    Args:
        recipe: The recipe.
        run: Its run folder.
        status: What the folder held when its version was `version`.
        version: See `RunFolder.version`.
        notes: Lines to say before training begins.
        overwrite: Start over where the run cannot be continued.
        stop: Hears the signals that ask to stop; None takes one whose second signal ends the process.

    Returns:
        The run's summary.

    Raises:
        UserError: The user's mistake; nothing was written to the folder.
        RunError: Training failed.
        Interrupted: A signal asked it to stop; the state is saved.
    """
    started = time.monotonic()
    prepare_process(recipe.train)
    stop = stop or StopRequest(quiet=not dist.is_main())
    try:
        parts = build_parts(recipe, run, status, overwrite=overwrite)
        recipe = parts.state.recipe
        trainer = Trainer(run, parts, stop, started)
        with ExitStack() as stack:
            dist.run_on_rank0(lambda: stack.enter_context(locked_run(run, version)))
            stack.enter_context(stop.listening())
            stack.callback(trainer.close)
            dist.run_on_rank0(lambda: trainer.start(notes, overwrite=overwrite))
            return trainer.train()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        half = max(1, step_images(recipe) // recipe.train.grad_accum // 2)
        less = f"data.batch_size={half} train.grad_accum={recipe.train.grad_accum * 2} --new"
        raise RunError(f"{run.path}: out of memory on the device; the same updates in less memory: {less}") from None


class Trainer:
    """One run in training. Every process has one and calls the same methods; only rank 0's speaks and writes."""

    def __init__(self, run: RunFolder, parts: Parts, stop: StopRequest, started: float) -> None:
        self.run = run
        self._is_new, self.state, self.data, self.train_loader, self.val_loader, self.checkpointer, self._damaged = parts
        self.train_loader.stop = self.val_loader.stop = stop
        self.time_limit = TimeLimit(run, self.state, started)
        self.stop_and_save = StopAndSave(stop, self.recipe.checkpoint, self.time_limit.is_over)
        self.data_timer = DataTimer(self.state.device)
        self.metrics: list[EpochMetrics] = []
        self.lines = ProgressLines(self.state, self.metrics)
        self.reporter = Reporter(run, self.recipe, self.metrics, self.train_loader.num_batches)
        self._is_without_samples = False
        self._failure: str | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the epochs that `train.hours` leaves of it."""
        return self.state.recipe

    # ------------------------------------------------------------------------------------------------- the loop

    def train(self) -> dict[str, Any]:
        """Train to the last epoch; return the summary."""
        collect_as_usual()
        progress = self.state.progress
        self.time_limit.take_up()
        while progress.epoch < self.recipe.train.epochs and not self.stops_early and not self.time_limit.ends_here:
            self.train_epoch()
            started = time.perf_counter()
            predictions = self.validate_epoch()
            self.end_epoch(predictions, time.perf_counter() - started)
        self.save()
        return dist.run_on_rank0(self.end_run)

    def train_epoch(self) -> None:
        """Train the rest of the epoch under way."""
        state, progress, loader = self.state, self.state.progress, self.train_loader
        if progress.step == loader.num_batches:  # was interrupted while validating
            return
        if state.unfreeze() and dist.is_main():
            stages = self.recipe.freeze.stages
            shown = ", ".join(stages) if isinstance(stages, tuple) else stages
            say(f"{self.run.path}: epoch {progress.epoch + 1} on: freeze.stages ({shown}) trained too")
        set_train_mode(state.model, state.freeze)
        started = time.perf_counter() - progress.epoch_seconds
        with self._saving_after_errors(), self.lines.begin_epoch() as bar:
            for batch in self.data_timer.over(loader.epoch(progress.epoch, progress.step)):
                if is_compiling := state.forward.is_about_to_compile:
                    bar.set_postfix_str("compiling the step: once, kept for the next run")
                is_update = train_step(state, batch, loader)
                seconds = time.perf_counter() - started
                if is_compiling:
                    self.time_limit.leave_out(seconds - progress.epoch_seconds)
                progress.epoch_seconds = seconds
                progress.wait_seconds += self.data_timer.take()
                self.lines.count_step()
                if self._is_without_samples:
                    started += self.show_samples()
                if is_update and progress.step % self.recipe.log.every_steps < self.recipe.train.grad_accum:
                    self.lines.show_loss(self.running_means()[0])
                if is_update:
                    self.stop_and_save.sync()
                    self.stop_if_asked()
                    self.save_if_due()
            self.running_means()

    def show_samples(self) -> float:
        """Draw samples.png, after the first step: drawing takes longer than that. Return the seconds that it took."""
        started = time.perf_counter()
        self._is_without_samples = False
        self.reporter.show_samples(self.train_loader, self.data.classes.names)
        return time.perf_counter() - started

    def validate_epoch(self) -> Predictions:
        """Evaluate the model, or the average of its weights, on the validation split."""
        state, stop = self.state, self.stop_and_save.sync
        try:
            with self._saving_after_errors():
                return evaluate(state.evaluated, self.val_loader, autocast=state.autocast, should_stop=stop, desc="validation")
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            half = max(1, self.recipe.data.eval_batch_size // 2)
            less = f"data.eval_batch_size={half} continues it"
            raise RunError(f"{self.run.path}: out of memory on the device in validation; {less}") from None

    def end_epoch(self, predictions: Predictions, val_seconds: float) -> None:
        """Record the epoch, save, and only then tell of it: metrics without a state are dropped on resume, the other way they are lost."""
        state, progress = self.state, self.state.progress
        row = self._epoch_metrics(predictions, val_seconds)
        self.metrics.append(row)
        if dist.is_main():
            self.run.write_metrics(self.metrics)
            predictions.save(self.run.val_predictions, files=self.data.val.files, class_names=state.classes.names)
        state.schedule.after_epoch(row["val_loss"])
        score = self._score(row)
        improved = (score, -row["val_loss"]) > (progress.best_score, -progress.best_loss)
        progress.stale_epochs = 0 if score > progress.best_score else progress.stale_epochs + 1
        if improved:
            progress.best_score, progress.best_top1, progress.best_loss = score, row["val_top1"], row["val_loss"]
        progress.seconds += row["seconds"]
        self.time_limit.end_epoch(row["seconds"])
        state.start_epoch(improved=improved)
        if improved or row["seconds"] >= self.recipe.checkpoint.every_minutes * 60 / 5:
            self.save()
        if dist.is_main():
            self.lines.end_epoch(row, is_best=improved)
            self.reporter.end_epoch(lambda: advice(self.recipe.data, state.device), progress)

    def _score(self, row: EpochMetrics) -> float:
        """Return what `train.best_by` compares; higher is better."""
        best_by = self.recipe.train.best_by
        return -row["val_loss"] if best_by == "loss" else float(row[f"val_{best_by}"])  # type: ignore[literal-required]

    def _epoch_metrics(self, predictions: Predictions, val_seconds: float) -> EpochMetrics:
        """Measure the epoch under way; the same numbers in all processes."""
        train_loss, train_acc = self.running_means()
        progress = self.state.progress
        progress.wait_seconds += self.data_timer.take()
        seconds = max(progress.epoch_seconds, 1e-9)

        def measure() -> EpochMetrics:
            val: dict[str, Any] = summarize(predictions.logits, predictions.labels)
            if self.recipe.train.best_by in CLASS_AVERAGES or has_trackers(self.recipe.log):
                val |= class_averages(predictions.logits, predictions.labels)
            row: EpochMetrics = {
                "epoch": progress.epoch + 1,
                "train_loss": train_loss,
                "train_acc": train_acc,
                "val_loss": val["loss"],
                "val_top1": val["top1"],
                "val_top5": val["top5"],
                "lr": self.state.schedule.lr,
                "images_per_second": self.train_loader.num_samples / seconds,
                "data_wait": min(progress.wait_seconds / seconds, 1.0),
                "seconds": progress.epoch_seconds + val_seconds,
            }
            return row | {f"val_{name}": val[name] for name in CLASS_AVERAGES if name in val}  # type: ignore[return-value]

        return dist.run_on_rank0(measure)

    # --------------------------------------------------------------------------------------- beginning and end

    def start(self, notes: Sequence[str] = (), *, overwrite: bool = False) -> None:
        """Write what comes first: recipe, environment, samples, and the metrics up to the checkpoint."""
        is_new = self._is_new
        run, state, data, progress = self.run, self.state, self.data, self.state.progress
        start_folder(run, self.recipe, fresh=is_new)
        rows = run.read_metrics()
        require_metrics(run, rows, progress.epoch)
        self.metrics += [row for row in rows if row["epoch"] <= progress.epoch]
        if len(self.metrics) < len(rows):
            run.write_metrics(self.metrics)
        facts = resolved_facts(state, data)
        state.wandb_id = self.reporter.start(state, data, facts)
        if is_new:
            run.write_json(run.env, {**facts, "wandb_id": state.wandb_id})
        else:
            self.checkpointer.repair(state, self._damaged)
            note_environment(run, data, progress, state.wandb_id)
        self._is_without_samples = not run.samples.is_file()
        for line in [*notes, *describe_run(run, state, data)]:
            say(line)
        if not is_new:
            say(f"{run.path}: continues in epoch {progress.epoch + 1} at step {progress.step}")
            if overwrite:
                say(f"{run.path}: is unfinished, so --overwrite has deleted nothing; delete the folder to start over")

    def end_run(self) -> dict[str, Any]:
        """Wait for the last checkpoint, then write the summary, which makes the run a finished one; return it."""
        progress, last = self.state.progress, self.metrics[-1]
        self.checkpointer.wait()
        summary = {
            "epochs": progress.epoch,
            "stopped_early": self.stops_early,
            "stale_epochs": progress.stale_epochs,
            "best_by": self.recipe.train.best_by,
            "best_epoch": progress.best_epoch,
            "best_top1": progress.best_top1,
            "best_loss": progress.best_loss,
            **({f"best_{best_by}": progress.best_score} if (best_by := self.recipe.train.best_by) in CLASS_AVERAGES else {}),
            "last_top1": last["val_top1"],
            "last_loss": last["val_loss"],
            "seconds": progress.seconds,
            "saving_seconds": self.checkpointer.seconds,
        }
        self.reporter.end_run(summary)
        self.run.write_json(self.run.summary, summary)
        return summary

    def close(self) -> None:
        """Wait for the checkpoint that is being written; end loader processes and the trackers."""
        self.checkpointer.close()
        self.train_loader.close()
        self.val_loader.close()
        self.reporter.close()

    @property
    def stops_early(self) -> bool:
        """Whether `train.early_stop` ends the run here."""
        limit = self.recipe.train.early_stop
        return limit is not None and self.state.progress.stale_epochs >= limit

    # ---------------------------------------------------------------------------- saving, stopping, broken steps

    def save(self) -> None:
        """Save the state. Call only between optimizer steps."""
        self.raise_if_nonfinite()
        self.checkpointer.save(self.state)
        self.stop_and_save.saved()

    def save_if_due(self) -> None:
        """Save by the recipe's clock and step count; raise the `RunError` that the last checkpoint met."""
        self.checkpointer.check()
        if self.stop_and_save.is_save_due(self.state.progress.updates):
            self.save()

    def stop_if_asked(self) -> None:
        """After a signal, or when the time is over, save, wait until that is on disk, and raise. Call only between optimizer steps.

        Raises:
            Interrupted: By a signal.
            RunError: `train.hours` are over within an epoch.
        """
        signum, progress = self.stop_and_save.signum, self.state.progress
        if signum is None and not self.stop_and_save.is_time_over:
            return
        self.save()
        dist.run_on_rank0(self.checkpointer.wait)
        where = f"saved at epoch {progress.epoch + 1}, step {progress.step}"
        if signum is not None:
            raise Interrupted(signum, f"{self.run.path}: interrupted, {where}; the same command continues it" if dist.is_main() else "")
        over = f"{self.run.path}: train.hours: {self.recipe.train.hours:g} h are over, {where}; a larger number, or null, continues it"
        raise RunError(over if dist.is_main() else "")

    def raise_if_nonfinite(self) -> None:
        """Raise `RunError` if a loss or gradient was not finite, with the state before that step saved. Waits for the device."""
        if self._failure is None and (num_bad := self.state.guard.num_bad_steps()):
            self.state.roll_back(num_bad)
            progress = self.state.progress
            window = range(progress.step, min(progress.step + self.recipe.train.grad_accum, self.train_loader.num_batches))
            files = (self.data.train.files[index] for index in self.train_loader.indices(progress.epoch, window))
            self._failure = (
                f"{self.run.path}: the loss or the gradient is not finite in epoch {progress.epoch + 1}, step {progress.step + 1}; saved "
                f"as it was before. Try a lower optim.lr, optim.clip_grad=1.0 or train.amp=off, with --new\n"
                f"{self.run.path}: the images of this step: {some_of(files, NUM_NAMED)}"
            )
            self.checkpointer.save(self.state)
            dist.run_on_rank0(self.checkpointer.wait)
        if self._failure is not None:
            raise RunError(self._failure if dist.is_main() else "")

    def running_means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the epoch so far, over all processes; tell trackers of the step. Waits for the device."""
        self.raise_if_nonfinite()
        state, progress = self.state, self.state.progress
        loss, correct, count, norm = torch.cat([state.sums, state.grad_norm.to(state.sums.dtype)]).tolist()
        if count > progress.told_images:
            mean = (loss - progress.told_loss) / (count - progress.told_images)
            progress.told_loss, progress.told_images = loss, count
            row: StepMetrics = {"step": progress.updates, "loss": mean, "lr": state.schedule.lr}
            self.reporter.end_step(row | {"grad_norm": norm} if math.isfinite(norm) else row)
        return loss / max(count, 1), correct / max(count, 1)

    @contextmanager
    def _saving_after_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._save_after(error)
            raise

    def _save_after(self, error: Exception) -> None:
        """Save the state before the optimizer step under way, after an error that is no fault of this program.

        Needs no memory of the state's size. If the run was asked to stop, raises `Interrupted`. What saving meets besides is not raised:
        then the last checkpoint is what there is, as it is after an error within the optimizer's own work, or among several processes, of
        which the others know nothing of this error.
        """
        if dist.world_size() > 1:
            if isinstance(error, Interrupted):
                self.stop_if_asked()
            return
        if not isinstance(error, Interrupted | RunError) and not is_out_of_memory(error):
            return
        traceback.clear_frames(error.__traceback__)  # memory that the step holds
        with suppress(Exception):
            if self.state.is_consistent:
                self.raise_if_nonfinite()
                self.state.roll_back(0)
                self.checkpointer.save_in_place(self.state)
        self.stop_and_save.sync()
        self.stop_if_asked()
