"""When a run saves, and what: numbered states beside the training, and the weights of the best epoch."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from hw1.errors import RunError, UserError
from hw1.runs.checkpoint import load_newest, load_weights, remove_state, save_state, save_weights
from hw1.runs.folder import RunFolder
from hw1.runtime import distributed as dist
from hw1.training.progress import Progress
from hw1.training.train_state import TrainState
from hw1.utils.background import Background
from hw1.utils.console import say

NUM_KEPT = 2
"""States that are kept: the newest, and the one before it should that be damaged."""


class Checkpointer:
    """Save the state of a run in a thread beside the training. Every process has one; only rank 0 touches the disk.

    Args:
        run: The run folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.seconds = 0.0
        """How long this process has waited for checkpoints."""
        self._writer = Background("checkpoint")
        self._saved: Progress | None = None

    def save(self, state: TrainState) -> None:
        """Copy the state to host memory, where it takes its size once, and write the copy beside the training.

        Waits for the checkpoint before it. Does nothing where this very state was saved. Call only between optimizer steps.

        Raises:
            RunError: The checkpoint before it could not be written.
        """
        if state.progress == self._saved:
            return
        started = time.monotonic()
        self._writer.wait()
        if dist.is_main():
            meta = best_meta(state) if state.progress.is_best else None
            self._writer.start(partial(write_checkpoints, self.run, state.copy_state(), meta))
        self._saved = replace(state.progress)
        self.seconds += time.monotonic() - started

    def save_in_place(self, state: TrainState) -> None:
        """Write the state without copying it first, and wait for that: for a process that has run out of memory."""
        self._writer.wait()
        if state.progress != self._saved:
            write_checkpoints(self.run, state.state_dict(), best_meta(state) if state.progress.is_best else None)
            self._saved = replace(state.progress)

    def check(self) -> None:
        """Raise the `RunError` of a checkpoint that failed meanwhile; never waits."""
        self._writer.check()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk; raise the `RunError` that it met."""
        self._writer.wait()

    def close(self) -> None:
        """Wait for the checkpoint that is being written, whatever becomes of it."""
        self._writer.close()

    def load(self) -> tuple[dict[str, Any], list[str]]:
        """Read the newest state that is whole.

        Returns:
            The state, and what is wrong with each newer one, a line each.

        Raises:
            UserError: There is none.
        """
        try:
            return load_newest(self.run.state_files())
        except UserError as error:
            raise UserError(*error.problems, f"{self.run.path}: no whole checkpoint to continue from; --overwrite starts over") from None

    def repair(self, state: TrainState, damaged: list[str]) -> None:
        """Make the checkpoints of a run that is continued whole again, as far as that can be; say what was not.

        Args:
            state: The state that was loaded.
            damaged: What `load` found wrong with newer ones.
        """
        self._saved = replace(state.progress)
        files = self.run.state_files()
        for problem, path in zip(damaged, files, strict=False):
            say(f"{problem}; {files[len(damaged)].name} is used instead, and what came after it is done again")
            remove_state(path)
        if state.progress.is_best:  # the process may have been killed between the two files of the best epoch
            save_weights(self.run.best, state.evaluated.state_dict(), best_meta(state))
        elif state.progress.best_epoch:
            try:
                load_weights(self.run.best)
            except UserError as error:
                say(f"{error}; the next better epoch replaces it")


def best_meta(state: TrainState) -> dict[str, Any]:
    """Return what is needed to use the best weights: class names, and the result they had."""
    progress = state.progress
    return {
        "classes": list(state.classes.names),
        "epoch": progress.best_epoch,
        "val_top1": progress.best_top1,
        "val_loss": progress.best_loss,
        "identity": state.identity,
    }


def write_checkpoints(run: RunFolder, state: Mapping[str, Any], meta: Mapping[str, Any] | None) -> None:
    """Write a numbered state, keep the newest two, and write `best.safetensors` where there is meta data for it.

    The state comes first: a process killed between the two finds on resume that the best weights are owed.

    Raises:
        RunError: The disk does not take it, or a weight is not finite, which never replaces a good state.
    """
    path = run.state_file(state["progress"]["epoch"], state["progress"]["step"])
    for name, tensor in state["model"].items():
        if not is_finite(tensor):
            raise RunError(f"{path}: not saved, as {name} is not finite; try a lower optim.lr or optim.clip_grad=1.0, with --new")
    save_state(path, state)
    for former in run.state_files()[NUM_KEPT:]:
        remove_state(former)
    if meta is not None:
        save_weights(run.best, state["model"] if state["ema"] is None else state["ema"], meta)


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all numbers in it are finite; takes no memory of its size."""
    return not tensor.is_floating_point() or not tensor.numel() or all(math.isfinite(extreme) for extreme in (tensor.amin(), tensor.amax()))
