"""Faults from inside a training process, each planted by a function that is called before it begins."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

DYING = ("write", "fsync", "link", "replace")
"""Where `die_at` can kill: in the middle of a checkpoint's bytes, before they are on disk, between its names."""


def log_samples(path: str) -> None:
    """One line a batch as it is trained on: epoch, step, positions of its images. A line is one system call, so that no kill tears it."""
    from hw1 import engine

    file, step = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), engine.train_step

    def logged(training: Any, batch: Any, loader: Any) -> bool:
        at = training.progress
        os.write(file, f"{at.epoch} {at.step} {' '.join(map(str, batch.index.tolist()))}\n".encode())
        return step(training, batch, loader)

    engine.train_step = logged


def die_at(call: str, count: int) -> None:
    """SIGKILL at the `count`th (from 1) call of its kind while files are written; `write` tears the data in two."""
    from hw1 import checkpoint

    left = count

    def is_now() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def dies(*arguments: Any, **options: Any) -> Any:
            if is_now():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return dies

    if call != "write":
        setattr(os, call, deadly(getattr(os, call)))
        return
    write = checkpoint._HashedFile.write

    def torn(self: Any, data: Any) -> int:
        if is_now():
            self._file.write(memoryview(data)[: len(data) // 2])
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, data)

    checkpoint._HashedFile.write = torn  # type: ignore[method-assign]


def before_step(act: Callable[[Any, Any], None], count: int) -> None:
    """Calls `act(training, batch)` before the `count`th (from 1) batch that this process trains on."""
    from hw1 import engine

    step, left = engine.train_step, count

    def changed(training: Any, batch: Any, loader: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            act(training, batch)
        return step(training, batch, loader)

    engine.train_step = changed


def not_finite_at(count: int, value: str, where: str) -> None:
    """NaN or an infinity in a picture, and with it in the loss, or in one gradient alone."""

    def act(training: Any, batch: Any) -> None:
        if where == "loss":
            batch.image[0, 0, 3, 3] = float(value)
            return
        parameter = training.model.get_parameter("layer4.0.conv1.weight")

        def hook(gradient: Any) -> Any:
            handle.remove()
            gradient = gradient.clone()
            gradient.view(-1)[7] = float(value)
            return gradient

        handle = parameter.register_hook(hook)

    before_step(act, count)


def out_of_memory_at(count: int) -> None:
    def act(training: Any, batch: Any) -> None:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    before_step(act, count)


def damage_at(count: int, paths: list[str]) -> None:
    """Cuts these files in half."""

    def act(training: Any, batch: Any) -> None:
        for path in paths:
            os.truncate(path, Path(path).stat().st_size // 2)

    before_step(act, count)


def impatient(seconds: int) -> None:
    """A loader's processes are taken for hung after so long."""
    from hw1.data import loaders, watch

    watch.PATIENCE_SECONDS, loaders.SECONDS_PER_IMAGE = seconds, 0.0


def clock_shift(step_seconds: float) -> None:
    """The clock on the wall jumps by so much, forward and back again, at every look."""
    import time

    real, sign = time.time, 1.0

    def wrong() -> float:
        nonlocal sign
        sign = -sign
        return real() + sign * step_seconds

    time.time = wrong


def slow_writing(seconds: float) -> None:
    """Each piece of a checkpoint's bytes takes so long, as on a slow disk."""
    import time

    from hw1 import checkpoint

    write, pieces = checkpoint._HashedFile.write, 0

    def slowly(self: Any, data: Any) -> int:
        nonlocal pieces
        pieces += 1
        if pieces % 20 == 0:
            time.sleep(seconds)
        return write(self, data)

    checkpoint._HashedFile.write = slowly  # type: ignore[method-assign]


def without_powers() -> None:
    """Files that may not be read cannot be, by root either."""
    from faults import powers

    powers.drop()


def stop_after_updates(count: int) -> None:
    """SIGTERM to itself within the last batch of the `count`th optimizer step of the first epoch, two batches each."""

    def act(training: Any, batch: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before_step(act, 2 * count)
