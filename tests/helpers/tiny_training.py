"""The state of a tiny model, batches for it and a trainer without a data set, for the tests of steps and of saving."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hw1.config.recipe import Recipe
from hw1.data.image_folder import ClassMap
from hw1.data.loader.base import Batch
from hw1.runs.folder import RunFolder
from hw1.training.build_state import build_train_state
from hw1.training.checkpointer import Checkpointer
from hw1.training.cuda_graphs import CudaGraphSteps
from hw1.training.setup import Parts
from hw1.training.train_state import TrainState
from hw1.training.train_step import add_gradients, train_step, update
from hw1.training.trainer import Trainer
from hw1.utils.signals import StopRequest

CLASSES = ClassMap(tuple("abcde"))
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4])
CPU = torch.device("cpu")
NUM_STEPS = 12
"""Batches of an epoch."""


def make(**sections: object) -> TrainState:
    """A tiny training in FP32 without Mixup or dropout, unless the sections say otherwise."""
    return make_on(CPU, **sections)


def make_on(device: torch.device, **sections: object) -> TrainState:
    """The same on any device."""
    model = {"name": "resnet18_half_cbam", "pretrained": False, "drop_layer3": 0.0, "drop_rate": 0.0}
    defaults = {"model": model, "mixup": {"prob": 0.0}, "freeze": {"stages": ()}, "aug": {"size": 32}, "optim": {"lr": 1e-3}}
    train = {"amp": "off", **sections.pop("train", {})}
    recipe = Recipe.model_validate({**defaults, **sections, "train": train})
    return build_train_state(recipe, device, CLASSES, LABELS, "fingerprint", steps_per_epoch=NUM_STEPS, load_weights=True)


def make_batches(*sizes: int) -> list[Batch]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(sum(sizes), 3, 32, 32, generator=rng)
    labels = torch.randint(5, (sum(sizes),), generator=rng)
    parts = zip(images.split(list(sizes)), labels.split(list(sizes)), strict=True)
    return [Batch(image, label, torch.arange(len(label))) for image, label in parts]


def loader_of(*sizes: int) -> SimpleNamespace:
    """The part of a Loader that a step asks: how many batches there are, and how large."""
    return SimpleNamespace(num_batches=len(sizes), batch_size_of=lambda step: sizes[step], local_batch_size_of=lambda step: sizes[step])


def steps(training: TrainState, *sizes: int) -> list[bool]:
    return [train_step(training, batch, loader_of(*sizes)) for batch in make_batches(*sizes)]


def recorded(training: TrainState, made: list[int]) -> TrainState:
    """With recordings that do what they were given again: nothing while they are made, as with a real graph."""

    def record(function: Callable[[], None]) -> Callable[[], None]:
        made.append(1)
        return function

    def step(images, labels, draw, decay):
        add_gradients(training, images, labels, draw, 1.0)
        update(training, decay)

    training.use_cuda_graphs, training.cuda_graphs = True, CudaGraphSteps(step, training.optimizer, training.device, record)
    return training


class StubLoader:
    """A loader without images: batch n of an epoch is of images 8 n to 8 n + 7."""

    num_batches = NUM_STEPS
    stop: Any = None

    def indices(self, epoch: int, steps: range) -> list[int]:
        return [8 * step + index for step in steps for index in range(8)]

    def close(self) -> None:
        pass


def trainer_of(state: TrainState, folder: Path, stop: Callable[[], int | None] = lambda: None, loader: Any = None) -> Trainer:
    """A trainer of this state that writes to `folder`."""
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    data: Any = SimpleNamespace(train=SimpleNamespace(files=[f"{n}.jpg" for n in range(100)]))
    loader = loader or StubLoader()
    request = StopRequest()
    trainer = Trainer(run, Parts(True, state, data, loader, loader, Checkpointer(run), []), request, time.monotonic())
    trainer.stop_and_save._stop = stop
    return trainer


def newest(folder: Path) -> Path:
    """The newest state in a run folder."""
    return RunFolder(folder).state_files()[0]


def stopped(trainer: Trainer) -> None:
    """What the loop does after an optimizer step, of a trainer that is asked to stop."""
    trainer.stop_and_save.sync()
    trainer.stop_if_asked()
