"""Faults from inside a training process, each planted by a function that is called before it begins."""

import atexit
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.killed import count_operations, die_before

__all__ = ["count_operations", "die_before"]  # beside the functions of this module

DYING = ("write", "fsync", "replace")
"""Where `die_at` can kill: in the middle of a checkpoint's bytes, before they are on disk, between its names."""


def log_samples(path: str) -> None:
    """One line a batch as it is trained on: epoch, step, positions of its images. A line is one system call, so that no kill tears it."""
    from hw1.training import trainer as engine

    file, step = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), engine.train_step

    def logged(training: Any, batch: Any, loader: Any) -> bool:
        at = training.progress
        os.write(file, f"{at.epoch} {at.step} {' '.join(map(str, batch.index.tolist()))}\n".encode())
        return step(training, batch, loader)

    engine.train_step = logged


def before_writing(call: str, act: Callable[..., None]) -> None:
    """Calls `act` with the arguments of each call of this kind (`DYING`) before it is done."""
    from hw1.runs import checkpoint

    owner, name = (checkpoint._HashedFile, "write") if call == "write" else (os, call)
    function = getattr(owner, name)

    def changed(*arguments: Any, **options: Any) -> Any:
        act(*arguments)
        return function(*arguments, **options)

    setattr(owner, name, changed)


def die_at(call: str, count: int) -> None:
    """SIGKILL at the `count`th (from 1) call of its kind while files are written; `write` tears the data in two."""
    left = count

    def act(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if call == "write":
                file, data = arguments
                file._file.write(memoryview(data)[: len(data) // 2])
                file._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    before_writing(call, act)


def count_calls(path: str) -> None:
    """At the end of the process writes how many calls of each kind there were, and states that got their names, as JSON."""
    counts = dict.fromkeys((*DYING, "states"), 0)

    def count(call: str) -> Callable[..., None]:
        def act(*arguments: Any) -> None:
            counts[call] += 1
            counts["states"] += call == "replace" and str(arguments[1]).endswith(".pt")

        return act

    for call in DYING:
        before_writing(call, count(call))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and Path(path).write_text(json.dumps(counts)))


def before_step(act: Callable[[Any, Any], None], count: int) -> None:
    """Calls `act(training, batch)` before the `count`th (from 1) batch that this process trains on."""
    from hw1.training import trainer as engine

    step, left = engine.train_step, count

    def changed(training: Any, batch: Any, loader: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            act(training, batch)
        return step(training, batch, loader)

    engine.train_step = changed


def lose_console(count: int, how: str) -> None:
    """Before the `count`th batch stdout and stderr are full, closed, or a pipe that nobody reads any more."""

    def act(training: Any, batch: Any) -> None:
        if how == "closed":
            os.close(1)
            os.close(2)
            return
        reading, console = os.pipe() if how == "reader gone" else (None, os.open("/dev/full", os.O_WRONLY))
        if reading is not None:
            os.close(reading)
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.close(console)

    before_step(act, count)


def not_finite_at(count: int, value: str, where: str) -> None:
    """NaN or an infinity in an image, and with it in the loss, or in one gradient alone."""

    def act(training: Any, batch: Any) -> None:
        if where == "loss":
            batch.image[0, 0, 3, 3] = float(value)
            return
        parameter = training.model.get_parameter("layer4.0.conv1.weight")

        def hook(gradient: Any) -> Any:
            handle.remove()
            gradient = gradient.clone()
            gradient[1, 2, 0, 1] = float(value)
            return gradient

        handle = parameter.register_hook(hook)

    before_step(act, count)


def out_of_memory_at(count: int) -> None:
    """The error of a GPU without memory, in the `count`th batch's forward pass."""

    def fail(*_: Any) -> None:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    before_step(lambda training, batch: training.model.register_forward_hook(fail), count)


def memory_taken_at(count: int) -> None:
    """From the `count`th batch on the system gives this process no more memory."""
    before_step(lambda *_: _take_memory(), count)


def memory_taken_in_validation() -> None:
    from hw1.training import trainer as engine

    evaluate = engine.evaluate

    def starved(model: Any, *arguments: Any, **options: Any) -> Any:
        model.register_forward_pre_hook(lambda *_: _take_memory())
        return evaluate(model, *arguments, **options)

    engine.evaluate = starved


def _take_memory() -> None:
    import resource

    import torch

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    kept = []
    try:
        while True:
            kept.append(torch.empty(1 << 20, dtype=torch.uint8))  # what the allocator has in store
    except RuntimeError:
        pass


def in_fp16(scale: float) -> None:
    """Trains in fp16 with a scaler that begins with this scale, on a CPU, where the recipe cannot ask for it."""
    import torch

    from hw1.runtime.device import autocast_of
    from hw1.training import setup

    build = setup.build_train_state

    def scaled(*arguments: Any, **options: Any) -> Any:
        training = build(*arguments, **options)
        training.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        training.autocast = autocast_of(torch.device("cpu"), torch.float16)
        return training

    setup.build_train_state = scaled


def damage_at(count: int, paths: list[str]) -> None:
    """Cuts these files in half."""

    def act(training: Any, batch: Any) -> None:
        for path in paths:
            os.truncate(path, Path(path).stat().st_size // 2)

    before_step(act, count)


def impatient(seconds: int) -> None:
    """A loader's processes are taken for hung after so long."""
    from hw1.data.loader import loader as loaders
    from hw1.data.loader import watchdog as watch

    watch.PATIENCE_SECONDS, loaders.SECONDS_PER_IMAGE = seconds, 0.0


def clock_shift(step_seconds: float) -> None:
    """The clock on the wall jumps by so much, forward and back again, at every look."""
    real, sign = time.time, 1.0

    def wrong() -> float:
        nonlocal sign
        sign = -sign
        return real() + sign * step_seconds

    time.time = wrong


def on_signal(act: Callable[[], object]) -> None:
    """Calls `act` whenever the training is told to stop."""
    from hw1.utils.signals import StopRequest

    receive = StopRequest._receive

    def received(self: Any, signum: int, frame: Any) -> None:
        act()
        receive(self, signum, frame)

    StopRequest._receive = received  # type: ignore[method-assign]


def log_signals(path: str) -> None:
    """A line in the log of samples for every signal to stop, and for every beginning of a validation, which takes a second more."""
    from hw1.training import trainer as engine

    file, evaluate = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), engine.evaluate

    def slow(*arguments: Any, **options: Any) -> Any:
        os.write(file, b"validation\n")
        time.sleep(1)
        return evaluate(*arguments, **options)

    engine.evaluate = slow
    on_signal(lambda: os.write(file, b"signal\n"))


def slow_writing_when_told_to_stop(seconds: float) -> None:
    """From the first signal on each piece of a checkpoint's bytes takes so long, as on a slow disk."""
    pause = 0.0

    def begin() -> None:
        nonlocal pause
        pause = seconds

    on_signal(begin)
    before_writing("write", lambda *_: time.sleep(pause))


def without_powers() -> None:
    """Files that may not be read cannot be, by root either."""
    from faults import powers

    powers.drop()


def stop_after_updates(count: int) -> None:
    """SIGTERM to itself within the last batch of the `count`th optimizer step of the first epoch, two batches each."""

    def act(training: Any, batch: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before_step(act, 2 * count)


def cheap_figures() -> None:
    """The figures of an evaluation are empty files, which take no time."""
    from hw1.attention import figure_rows
    from hw1.evaluation.report import write

    figure_rows.plot_attention_examples = lambda *_: None
    for name in ("confusion_figure", "reliability_figure", "pair_figure", "worst_figure"):
        setattr(write, name, lambda *_: None)
    write.render_figure = lambda *_: b""
