"""One process at work on a run: what it trains, where it reports to, and when and how it saves."""

import json
import math
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from hw1.data.image_folder import TrainingData
from hw1.data.loader.base import BatchLoader
from hw1.errors import Interrupted, RunError, UserError
from hw1.plots import plot_curves, save_figure
from hw1.runs.checkpoint import load_newest, load_weights, save_state, save_weights
from hw1.runs.folder import RunFolder
from hw1.runs.wandb_logger import Row, WandbRun
from hw1.runtime import distributed as dist
from hw1.runtime.device import get_rng_state, is_out_of_memory
from hw1.training.data_time import WORTH_ADVICE, DataTimer, advice
from hw1.training.train_state import Progress, Training, num_processes
from hw1.utils.background import Background
from hw1.utils.console import say
from hw1.utils.files import replace_file

CURVES_EVERY_SECONDS = 30.0  # an image takes a third of a second: too much after each epoch of a few seconds
NUM_NAMED = 256  # images that a message names before it counts the rest


@dataclass
class Session:
    """Where several processes train, all have one and call the same of its methods, but only rank 0's speaks and writes."""

    training: Training
    run: RunFolder
    data: TrainingData
    train_loader: BatchLoader
    val_loader: BatchLoader
    stop: Callable[[], int | None]
    """Returns the signal by which the process was asked to stop, or None."""
    rows: list[Row] = field(default_factory=list)
    """One record per finished epoch."""
    wandb: WandbRun | None = None
    damaged: list[str] = field(default_factory=list)
    """What was wrong with checkpoints newer than the one that the run is continued from, a line each."""
    writer: Background = field(default_factory=lambda: Background("checkpoint"))
    saved: Progress | None = None
    """What was last given to the writer."""
    saved_at: float = field(default_factory=time.monotonic)
    saving_seconds: float = 0.0
    """How long this process has waited for checkpoints."""
    fault: str | None = None
    """Why training cannot go on."""
    drawn_at: float = 0.0
    wait: DataTimer = field(init=False)
    _agreement: dist.AsyncMax = field(default_factory=dist.AsyncMax)
    _agreed: tuple[int | None, bool] = (None, False)
    """Of several processes: the signal by which any of them was asked to stop, and whether a checkpoint is due."""

    def __post_init__(self) -> None:
        self.wait = DataTimer(self.training.device)

    def close(self) -> None:
        """Waits for the checkpoint that is being written; ends loader processes and the wandb client."""
        self.writer.close()
        self.train_loader.close()
        self.val_loader.close()
        if self.wandb:
            self.wandb.stop()
            self.wandb = None

    def look(self) -> None:
        """Waits for the device and raises `RunError` if a loss or a gradient was not finite; the state before that step is saved."""
        if self.fault is None and (found := self.training.guard.find()):
            self.training.roll_back(*found)
            progress = self.training.progress
            indices = dist.gather([index for samples in found[0].samples for index in samples.tolist()])
            files = [self.data.train.files[index] for part in indices for index in part]
            more = f" and {len(files) - NUM_NAMED} more" if len(files) > NUM_NAMED else ""
            self.fault = (
                f"{self.run.path}: the loss or the gradient is not finite in epoch {progress.epoch + 1}, step {progress.step + 1}; saved "
                f"as it was before. Try a lower optim.lr, optim.clip_grad=1.0 or train.amp=off, with run.name=NAME\n"
                f"{self.run.path}: the images of this step: {', '.join(files[:NUM_NAMED])}{more}"
            )
            self._save()
            dist.run_on_rank0(self.writer.wait)
        if self.fault is not None:
            raise RunError(self.fault if dist.is_main() else "")

    def running_means(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far, up to the last optimizer step over all processes; looks first."""
        self.look()
        loss, correct, count = self.training.sums.tolist()
        return loss / max(count, 1), correct / max(count, 1)

    def save(self) -> None:
        """Looks, then copies the state to host memory, where it takes its size once, and writes it beside the training.

        Waits for the checkpoint before it, and raises the `RunError` that this one met. Does nothing where this very state was saved.
        Call only between optimizer steps.
        """
        self.look()
        self._save()

    def _save(self) -> None:
        if self.training.progress == self.saved:
            return
        started = time.monotonic()
        self.writer.wait()
        other_rngs = dist.gather(get_rng_state())[1:]
        if dist.is_main():
            state = {**self.training.copy_state(), "other_rngs": other_rngs}
            meta = self.best_meta() if self.is_best else None
            self.writer.start(partial(write_checkpoints, self.run, state, meta))
        self.saved, self.saved_at = replace(self.training.progress), time.monotonic()
        self.saving_seconds += self.saved_at - started

    @property
    def is_best(self) -> bool:
        """Whether the weights at hand are those of the best epoch."""
        progress = self.training.progress
        return progress.step == 0 and 0 < progress.epoch == progress.best_epoch

    def best_meta(self) -> dict[str, Any]:
        """What is needed to use the best weights: class names, and the result they had."""
        progress = self.training.progress
        return {
            "classes": list(self.training.classes.names),
            "epoch": progress.best_epoch,
            "val_top1": progress.best_top1,
            "val_loss": progress.best_loss,
        }

    def save_after(self, error: Exception) -> None:
        """After an error in a step or a validation, but for faults of this program: saves the state before the optimizer step under way.

        It needs no memory of the state's size. If the run was asked to stop, raises `Interrupted`. What saving meets besides is not raised:
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
        training = self.training
        with suppress(Exception):
            if training.is_whole:
                if (mark := training.guard.give_up()) is not None:
                    training.roll_back(mark, 0)
                self.look()
                self.writer.wait()
                if training.progress != self.saved:
                    write_checkpoints(self.run, training.state_dict(), self.best_meta() if self.is_best else None)
                    self.saved = replace(training.progress)
        self.stop_if_asked()

    def repair(self) -> None:
        """Makes the checkpoints of a run that is continued whole again, as far as that can be; says what was not."""
        for problem in self.damaged:
            say(f"{problem}; {self.run.previous} is used instead, and what came after it is done again")
        if self.damaged:
            replace_file(self.run.previous, self.run.last)
        if self.is_best:  # the process may have been killed between the two files of the best epoch
            save_weights(self.run.best, self.training.evaluated.state_dict(), self.best_meta())
        elif self.training.progress.best_epoch:
            try:
                load_weights(self.run.best)
            except UserError as error:
                say(f"{error}; the next better epoch replaces it")

    def meet(self) -> int | None:
        """Several processes: tells the others of a signal and of a checkpoint that is due, and learns what was told at the meeting before.

        So all of them stop, and save, at the same step. Returns the signal by which to stop, if any.
        """
        if dist.world_size() == 1:
            return self.stop()
        is_due = dist.is_main() and self._is_time
        if is_due:
            self.saved_at = time.monotonic()  # said once
        signum, due = self._agreement(self.stop() or 0, is_due)
        self._agreed = signum or None, bool(due)
        return self._agreed[0]

    @property
    def _is_time(self) -> bool:
        return time.monotonic() - self.saved_at >= self.training.recipe.checkpoint.every_minutes * 60

    def save_if_due(self) -> None:
        """Saves by the recipe's clock and step count; call only between optimizer steps. `RunError` if the last checkpoint failed."""
        self.writer.check()
        every = self.training.recipe.checkpoint.every_steps
        by_steps = every is not None and self.training.progress.updates % every == 0
        if by_steps or (self._is_time if dist.world_size() == 1 else self._agreed[1]):
            self.save()

    def stop_if_asked(self) -> None:
        """After a signal: saves, waits until that is on disk, and raises `Interrupted`; call only between optimizer steps."""
        signum = self.stop() if dist.world_size() == 1 else self._agreed[0]
        if signum is not None:
            self.save()
            dist.run_on_rank0(self.writer.wait)
            progress = self.training.progress
            at = f"epoch {progress.epoch + 1}, step {progress.step}"
            message = f"{self.run.path}: interrupted, saved at {at}; the same command continues it"
            raise Interrupted(signum, message if dist.is_main() else "")

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


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers in it are; takes no memory of its size."""
    return not tensor.is_floating_point() or not tensor.numel() or all(math.isfinite(found) for found in (tensor.amin(), tensor.amax()))


def write_checkpoints(run: RunFolder, state: Mapping[str, Any], best_meta: Mapping[str, Any] | None) -> None:
    """Writes `last` from a copied state, and `best` from it where there is something to say of it.

    `last` comes first: a process killed between the two finds on resume that `best` is owed. Raises `RunError`, and leaves both as they
    are, where a weight is not finite: a broken state never takes the place of a good one.
    """
    for name, tensor in state["model"].items():
        if not is_finite(tensor):
            raise RunError(
                f"{run.last}: not saved, as {name} is not finite; try a lower optim.lr or optim.clip_grad=1.0, with run.name=NAME"
            )
    save_state(run.last, state, run.previous)
    if best_meta is not None:
        save_weights(run.best, state["model"] if state["ema"] is None else state["ema"], best_meta)


def read_checkpoint(run: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """The newest whole checkpoint, and what is wrong with newer ones, a line each. Raises `UserError` if none is whole."""
    try:
        return load_newest(run.last, run.previous)
    except UserError as error:
        raise UserError(*error.problems, f"{run.path}: no whole checkpoint to continue from; --overwrite starts over") from None


def continue_training(training: Training, state: dict[str, Any], run: RunFolder, data: TrainingData) -> None:
    """Fills in a checkpoint. Raises `UserError` if the data are not those of the run, with the difference.

    Another number of processes goes on at the same step, with the same images in every batch, but with other draws of dropout.
    """
    root = training.recipe.data.root or training.recipe.data.dataset
    former, current = tuple(state["classes"]), data.classes.names
    if former != current:
        gone, new = sorted(set(former) - set(current)), sorted(set(current) - set(former))
        difference = (
            f"{len(former)} then, {len(current)} now" + (f"; gone {_some(gone)}" if gone else "") + (f"; new {_some(new)}" if new else "")
        )
        raise UserError(f"{run.path}: trained on other classes than those in {root} ({difference}); run.name=NAME starts another run")
    if state["fingerprint"] != data.fingerprint:
        counts = f"{len(data.train)} + {len(data.val)} now"
        with suppress(OSError, ValueError, KeyError):
            env = json.loads(run.env.read_bytes())
            counts = f"{env['num_train']} + {env['num_val']} then, {counts}"
        raise UserError(f"{run.path}: the images in {root} have changed since ({counts}); run.name=NAME starts another run")
    training.load_state_dict(state)
    if (former_number := num_processes(state)) != dist.world_size():
        what = "the same batches, but other draws of dropout and other shares for BatchNorm"
        say(f"{run.path}: trained by {former_number} processes so far, by {dist.world_size()} from here on: {what}")


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" ..." if len(names) > 5 else "")
