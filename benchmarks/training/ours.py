"""This project's training step in each way that it can run, driven as `hw1.training.trainer.train_epoch` drives it."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.training.case import BASE, Case
from benchmarks.training.device import use_defaults
from benchmarks.training.same import first_loss
from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.data.loader.base import Batch
from hw1.models.freeze import set_train_mode
from hw1.models.resolve import resolve
from hw1.runs.folder import RunFolder
from hw1.runtime.device import keep_freed_memory, set_determinism
from hw1.training.build_state import build_train_state
from hw1.training.checkpointer import Checkpointer
from hw1.training.setup import Parts
from hw1.training.train_step import train_step
from hw1.training.trainer import Trainer
from hw1.utils.signals import StopRequest

FREEZING = {"faithful": BASE, "fast": BASE.with_name("fast.yaml")}
"""The two recipes: what the report froze, and more."""


class Way(NamedTuple):
    label: str
    channels_last: bool
    compile: bool = False
    cuda_graph: bool = False


WAYS: dict[str, Way] = {
    "nchw": Way("eager, NCHW", False),
    "nhwc": Way("eager, channels_last", True),
    "compiled": Way("compiled, channels_last", True, compile=True),
    "compiled-nchw": Way("compiled, NCHW", False, compile=True),
    "graph": Way("compiled, one CUDA graph, channels_last", True, compile=True, cuda_graph=True),
    "eager-graph": Way("eager, one CUDA graph, channels_last", True, cuda_graph=True),
}
"""THE table of our variants: with each freezing they are `faithful/nchw` ... `fast/eager-graph`."""

OURS = {f"{freezing}/{way}": f"hw1 {freezing}, {WAYS[way].label}" for freezing in FREEZING for way in WAYS}


def why_not(key: str, device: torch.device) -> str | None:
    """Why a variant cannot run here; None where it can."""
    return "no CUDA device" if WAYS[key.partition("/")[2]].cuda_graph and device.type != "cuda" else None


def recipe_of(case: Case, key: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of variant `key`, with further overrides; every switch of speed is set, none is left to `auto`."""
    freezing, _, name = key.partition("/")
    way = WAYS[name]
    switches = {"channels_last": way.channels_last, "compile": way.compile, "cuda_graph": way.cuda_graph}
    settings = [f"train.{switch}={str(value).lower()}" for switch, value in switches.items()]
    return resolve(load_recipe(FREEZING[freezing], [*case.overrides(), *settings, *overrides]))[0]


class OurLoop:
    """`train_step` on batches that are on the device, with the look at the running loss every `log.every_steps` steps."""

    def __init__(self, case: Case, key: str, device: torch.device, overrides: Sequence[str] = ()) -> None:
        self.case = case
        self.device = device
        self.recipe = recipe_of(case, key, overrides)
        self.channels_last = self.recipe.train.channels_last
        labels = np.arange(case.num_classes)
        self.training = build_train_state(self.recipe, device, case.classes, labels, "benchmark", ENDLESS, load_weights=True)
        self.model = self.training.model
        set_train_mode(self.model, self.recipe.freeze)
        torch.manual_seed(self.recipe.seed)
        loader: Any = SimpleNamespace(stop=None, num_batches=None)
        nothing: Any = SimpleNamespace()
        run = RunFolder(Path("benchmark"))
        parts = Parts(True, self.training, nothing, loader, loader, Checkpointer(run), [])
        self.trainer = Trainer(run, parts, StopRequest(), time.monotonic())

    def begin(self) -> None:
        use_defaults()
        keep_freed_memory()
        set_determinism(self.recipe.train.deterministic)

    def step(self, batch: Batch) -> None:
        train_step(self.training, batch, _loader_of(len(batch.label)))
        if self.training.progress.step % self.recipe.log.every_steps == 0:
            self.trainer.running_means()

    def why_not_as_asked(self) -> str | None:
        """After some steps: None where they were compiled and recorded as the recipe asks, else what was not."""
        forward: Any = self.training.forward
        if self.recipe.train.compile and forward._compiled is None:  # a training goes on without, and says so on the console
            return "it was not compiled"
        return "it was not recorded" if self.recipe.train.cuda_graph and self.training.cuda_graphs is None else None

    def first_loss(self, batch: Batch) -> float:
        """Of the model as it starts, on this batch, without dropout and Mixup, outside of any compiled code."""
        return first_loss(self.model, batch, self.training.autocast)


ENDLESS = 10**9  # steps of the one epoch that a benchmark trains in


def _loader_of(batch_size: int) -> Any:
    """The part of a Loader that a step asks."""
    return SimpleNamespace(num_batches=ENDLESS, batch_size_of=lambda step: batch_size, local_batch_size_of=lambda step: batch_size)
