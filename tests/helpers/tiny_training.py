"""A training of a tiny model, batches for it and a session without a data set, for the tests of steps and of saving."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from hw1.config.recipe import Recipe
from hw1.data.image_folder import ClassMap
from hw1.data.loader.base import Batch
from hw1.training.checkpointer import Session
from hw1.training.train_state import Training, build_training
from hw1.training.trainer import train_step

CLASSES = ClassMap(tuple("abcde"))
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4])
CPU = torch.device("cpu")


def make(**sections: object) -> Training:
    """A tiny training in FP32 without Mixup or dropout, unless the sections say otherwise."""
    return make_on(CPU, **sections)


def make_on(device: torch.device, **sections: object) -> Training:
    """The same on any device."""
    model = {"name": "resnet18_half_cbam", "pretrained": False, "drop_layer3": 0.0, "drop_rate": 0.0}
    defaults = {"model": model, "mixup": {"prob": 0.0}, "freeze": {"stages": ()}, "aug": {"size": 32}, "optim": {"lr": 1e-3}}
    train = {"amp": "off", **sections.pop("train", {})}
    recipe = Recipe.model_validate({**defaults, **sections, "train": train})
    return build_training(recipe, device, CLASSES, LABELS, "fingerprint", steps_per_epoch=4, load_weights=True)


def make_batches(*sizes: int) -> list[Batch]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(sum(sizes), 3, 32, 32, generator=rng)
    labels = torch.randint(5, (sum(sizes),), generator=rng)
    parts = zip(images.split(list(sizes)), labels.split(list(sizes)), strict=True)
    return [Batch(image, label, torch.arange(len(label))) for image, label in parts]


def loader_of(*sizes: int) -> SimpleNamespace:
    """The part of a Loader that a step asks: how many batches there are, and how large."""
    return SimpleNamespace(num_batches=len(sizes), batch_size_of=lambda step: sizes[step], share_of=lambda step: sizes[step])


def steps(training: Training, *sizes: int) -> list[bool]:
    return [train_step(training, batch, loader_of(*sizes)) for batch in make_batches(*sizes)]


def session_of(training: Training, folder: Path, stop: Callable[[], int | None] = lambda: None) -> Session:
    run = SimpleNamespace(path=folder, last=folder / "last.pt", previous=folder / "previous.pt", best=folder / "best.safetensors")
    data = SimpleNamespace(train=SimpleNamespace(files=[f"{n}.jpg" for n in range(100)]))
    return Session(training, run, data, SimpleNamespace(), SimpleNamespace(), stop)  # type: ignore[arg-type]
