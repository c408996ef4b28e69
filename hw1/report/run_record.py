"""Data of the report: finished runs, runs that are left out, and the collection of all. No torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import Recipe
from hw1.evaluation.calibration import Calibration
from hw1.plots.curves import best_epoch
from hw1.runs.epoch_metrics import EpochMetrics


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run with the predictions of its last epoch's validation of N images.

    Attributes:
        folder: The run folder.
        path: Its path below the folder that all runs share, `<variant>/seed<seed>` as a rule.
        variant: Name of the variant: `run.name`, or what tells it from another one of that name.
        seed: The seed.
        recipe: The recipe.
        config: `config.yaml` as it stands in the run folder.
        env: Content of `env.json`.
        epochs: Metrics of each epoch, in order.
        files: Name of each validation image, [N].
        labels: True classes, [N].
        correct: Whether each top-1 prediction is correct, [N].
        predicted: The class of each top-1 prediction, [N].
        confidence: Its softmax probability, [N].
        class_names: Name of each class.
        calibration: Calibration of the last epoch's validation; None if a logit is not finite.
        evaluations: Splits of which `eval/<split>/index.html` shows an evaluation.
    """

    folder: Path
    path: str
    variant: str
    seed: int
    recipe: Recipe
    config: str
    env: dict[str, Any]
    epochs: list[EpochMetrics]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    correct: NDArray[np.bool_]
    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]
    class_names: tuple[str, ...]
    calibration: Calibration | None
    evaluations: tuple[str, ...]

    @property
    def last(self) -> EpochMetrics:
        """Metrics of the last epoch."""
        return self.epochs[-1]

    @cached_property
    def best(self) -> EpochMetrics:
        """Metrics of the epoch with the highest validation accuracy, ties by lower loss; of the last if none is finite."""
        position = best_epoch(self.epochs)
        return self.epochs[-1 if position is None else position]

    @property
    def minutes(self) -> float:
        """Duration of training and validation of all epochs."""
        return math.fsum(epoch["seconds"] for epoch in self.epochs) / 60

    @property
    def images_per_second(self) -> float:
        """Training images per second, median over epochs: the first epoch warms up, others may run on a busy machine."""
        return median(epoch["images_per_second"] for epoch in self.epochs)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of training and validation files."""
        return str(self.env["fingerprint"])

    @property
    def code(self) -> str:
        """Version and commit; a modified checkout is named as such, because its commit does not identify the code."""
        git = self.env.get("git")
        if not isinstance(git, dict):
            return f"hw1 {self.env.get('hw1')}, commit unknown"
        return f"commit {str(git.get('commit'))[:10]}" + (", modified" if git.get("modified") else "")

    @property
    def hardware(self) -> str:
        """Processor or GPU, and the precision that it computed in."""
        device, cpu = str(self.env.get("device")), str(self.env.get("cpu"))
        name = f"{cpu}, {self.env.get('cpu_count')} cores" if device == "cpu" else device
        return ", ".join([name, *([str(self.env["precision"])] if "precision" in self.env else [])])

    @property
    def validation_key(self) -> tuple[tuple[str, ...], bytes]:
        """Validation images and labels; equal for runs whose predictions can be compared image by image."""
        return self.files, self.labels.tobytes()


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A run that is left out of all statistics, and why.

    Attributes:
        folder: The run folder.
        path: Its path, as that of `RunRecord`.
        variant: Name of the variant; that of the folder where the recipe cannot be read.
        seed: The seed; None where neither recipe nor folder name it.
        status: What it is.
        reason: What is wrong or missing.
        recipe: The recipe; None if it cannot be read.
        epochs: Metrics of the epochs up to the first that cannot be read: enough to draw, not to count.
    """

    folder: Path
    path: str
    variant: str
    seed: int | None
    status: Literal["unfinished", "damaged", "copy"]
    reason: str
    recipe: Recipe | None
    epochs: list[EpochMetrics]


Run = RunRecord | LeftOut


@dataclass(frozen=True, eq=False)
class Collection:
    """Runs, by variant and seed; `root` is the folder that all of them share."""

    root: Path
    runs: list[RunRecord]
    left_out: list[LeftOut]

    @property
    def all_runs(self) -> list[Run]:
        """All runs, those that are left out last."""
        return [*self.runs, *self.left_out]

    def runs_of(self, variant: str) -> list[RunRecord]:
        """Return the finished runs of a variant, by seed."""
        return [run for run in self.runs if run.variant == variant]

    def missing_seeds(self, variants: Iterable[str]) -> dict[str, list[int]]:
        """Return the seeds without a folder of each variant, among those with a folder, finished or not, of any of `variants`."""
        variants = list(variants)
        present = {(run.variant, run.seed) for run in self.runs} | {(item.variant, item.seed) for item in self.left_out}
        seeds = sorted({seed for variant, seed in present if variant in variants and seed is not None})
        missing = {variant: [seed for seed in seeds if (variant, seed) not in present] for variant in variants}
        return {variant: absent for variant, absent in missing.items() if absent}
