"""Whole epochs from JPEG files: ours by `hw1.training.trainer.train_epoch`, timm's by its own loader around the timm-style step."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import FastCollateMixup

from benchmarks.input.peers import timm_loader
from benchmarks.training.case import Case, make_batches
from benchmarks.training.device import synchronize, use_default_heap
from benchmarks.training.images import open_folders
from benchmarks.training.ours import OurLoop
from benchmarks.training.peers import TimmLoop
from hw1.data.loader.loader import build_train_loader
from hw1.runs.folder import RunFolder
from hw1.training.data_time import DataTimer

NEVER_SAVES = ("checkpoint.every_minutes=10000.0",)


@dataclass(frozen=True)
class Files:
    """The data set on disk, and how it is read."""

    root: Path
    workers: int


class OurEpochs:
    """Epochs of variant `key`, and steps of the very same training on batches that are on the device already."""

    def __init__(self, case: Case, key: str, device: torch.device, files: Files, overrides: Sequence[str] = ()) -> None:
        settings = [f"data.root={files.root}", f"data.num_workers={files.workers}", *NEVER_SAVES, *overrides]
        self.device = device
        self.loop = loop = OurLoop(case, key, device, settings)
        _, data = open_folders(case, files.root)
        trainer = loop.trainer
        trainer.data, trainer.run = data, RunFolder(files.root.parent / "run")
        trainer.train_loader = self.loader = build_train_loader(data.train, loop.recipe, device)
        self.batches = make_batches(case, device, channels_last=loop.channels_last)
        self.waits: list[float] = []
        """Of every epoch the share in which the device waited for data."""

    def epoch(self) -> int:
        use_default_heap()
        self.loop.begin()
        trainer, progress = self.loop.trainer, self.loop.training.progress
        trainer.train_epoch()
        synchronize(self.device)
        progress.wait_seconds += trainer.data_timer.take()
        self.waits.append(min(progress.wait_seconds / progress.epoch_seconds, 1.0))
        progress.epoch += 1
        self._begin_anew()
        return self.loader.num_samples

    def steps(self) -> int:
        """As many steps as an epoch has whole batches."""
        use_default_heap()
        self.loop.begin()
        num = max(self.loader.num_samples // len(self.batches[0].label), 1)
        for number in range(num):
            self.loop.step(self.batches[number % len(self.batches)])
        synchronize(self.device)
        self._begin_anew()
        return num * len(self.batches[0].label)

    def _begin_anew(self) -> None:
        """As the end of an epoch leaves a training."""
        training = self.loop.training
        training.progress.step = 0
        training.progress.epoch_seconds = training.progress.wait_seconds = 0.0
        training.sums.zero_()
        training.guard.snapshot()

    def close(self) -> None:
        self.loader.close()


class TimmEpochs:
    """The timm-style step behind `create_loader`: images by Pillow, Mixup as they are collated, PrefetchLoader on the device."""

    def __init__(self, case: Case, key: str, device: torch.device, files: Files) -> None:
        self.device = device
        self.loop = TimmLoop(case, key, device, mixes=False)
        recipe, data = open_folders(case, files.root)
        mixup = FastCollateMixup(recipe.mixup.alpha, prob=recipe.mixup.prob, label_smoothing=0.0, num_classes=case.num_classes)
        images = replace(data.train, root=files.root / "train")
        self.loader: Any = timm_loader(images, recipe.aug, num_workers=files.workers, batch_size=case.batch, device=device, mixup=mixup)
        self.waits: list[float] = []

    def epoch(self) -> int:
        use_default_heap()
        self.loop.begin()
        wait, images, start = DataTimer(self.device), 0, time.perf_counter()
        for image, target in wait.over(self.loader):
            self.loop.step_on(image, target)
            images += len(image)
        synchronize(self.device)
        self.waits.append(min(wait.take() / (time.perf_counter() - start), 1.0))
        return images

    def close(self) -> None:
        iterator = getattr(self.loader.loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
