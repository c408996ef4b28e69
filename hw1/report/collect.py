"""Every run below a folder: read whole and checked, or left out with the reason. Reads only.

Only a run that has finished and whose files agree with each other becomes a `RunRecord`; whatever else looks like a run becomes a
`LeftOut`, so that no statistic can take it in by accident.
"""

import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import Recipe
from hw1.errors import UserError
from hw1.evaluation.calibration import Calibration, calibrate
from hw1.evaluation.metrics import nll
from hw1.plots.curves import best_epoch
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder
from hw1.utils.safe_load import check_npz

ROW_KEYS = ("epoch", "train_loss", "train_acc", "val_loss", "val_top1", "val_top5", "lr", "images_per_second", "seconds")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run. `rows` has one record an epoch; the arrays are those of the last epoch's validation, in the order of `files`."""

    path: str
    """`<variant>/seed<seed>`, below the folder of all runs."""
    variant: str
    seed: int
    recipe: Recipe
    config: str
    """`config.yaml` as it stands in the run folder."""
    env: dict[str, Any]
    rows: list[EpochMetrics]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    """Class numbers, [N]."""
    correct: NDArray[np.bool_]
    """Whether the top-1 guess is right, [N]."""
    class_names: tuple[str, ...]
    calibration: Calibration | None
    """Of the last epoch's validation; None where a logit is not finite."""
    evaluations: tuple[str, ...]
    """Splits of which `eval/<split>/index.html` shows an evaluation."""

    @property
    def last(self) -> EpochMetrics:
        return self.rows[-1]

    @cached_property
    def best(self) -> EpochMetrics:
        """The epoch with the highest validation accuracy, ties by lower loss; the last if none is finite."""
        position = best_epoch(self.rows)
        return self.rows[-1 if position is None else position]

    @property
    def minutes(self) -> float:
        """Training and validation of all epochs."""
        return math.fsum(row["seconds"] for row in self.rows) / 60

    @property
    def images_per_second(self) -> float:
        """Training images a second, median over epochs: the first warms up, and others may meet a busy machine."""
        return median(row["images_per_second"] for row in self.rows)

    @property
    def data(self) -> str:
        """Fingerprint of training and validation files."""
        return str(self.env["fingerprint"])

    @property
    def code(self) -> str:
        """Version and commit; a modified checkout says so, as its commit does not tell what ran."""
        git = self.env.get("git")
        if not isinstance(git, dict):
            return f"hw1 {self.env.get('hw1')}, commit unknown"
        return f"commit {str(git.get('commit'))[:10]}" + (", modified" if git.get("modified") else "")

    @property
    def hardware(self) -> str:
        """Processor or GPU, and the precision that it computed in."""
        device, cpu = str(self.env.get("device")), str(self.env.get("cpu"))
        name = f"{cpu}, {self.env.get('cpu_count')} cores" if device == "cpu" else device
        return ", ".join([name, *([self.env["precision"]] if "precision" in self.env else [])])

    @property
    def validation(self) -> tuple[tuple[str, ...], bytes]:
        """What must be equal for the answers of two runs to be compared image by image."""
        return self.files, self.labels.tobytes()


@dataclass(frozen=True)
class LeftOut:
    """A run that is in no statistic, and why."""

    path: str
    variant: str
    seed: int
    status: Literal["unfinished", "damaged"]
    reason: str


@dataclass(frozen=True, eq=False)
class Collection:
    """All runs below `root`, by variant and seed."""

    root: Path
    runs: list[RunRecord]
    left_out: list[LeftOut]

    def of(self, variant: str) -> list[RunRecord]:
        """The finished runs of a variant, by seed."""
        return [run for run in self.runs if run.variant == variant]

    def missing(self, variants: Iterable[str]) -> dict[str, list[int]]:
        """Seeds of which some of `variants` has a folder, finished or not, but this one has none."""
        variants = list(variants)
        present = {(run.variant, run.seed) for run in self.runs} | {(item.variant, item.seed) for item in self.left_out}
        seeds = sorted({seed for variant, seed in present if variant in variants})
        gaps = {variant: [seed for seed in seeds if (variant, seed) not in present] for variant in variants}
        return {variant: absent for variant, absent in gaps.items() if absent}


def collect(root: Path) -> Collection:
    """Reads `root/<variant>/seed<seed>/`. Raises `UserError` if there is no such folder or no run in it; a bad run is no error."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    runs: list[RunRecord] = []
    left_out: list[LeftOut] = []
    folders = [folder for folder in root.glob("*/seed*") if folder.is_dir() and re.fullmatch(r"seed\d+", folder.name)]
    for folder in sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name[4:]))):
        found = _read(folder, root)
        (runs if isinstance(found, RunRecord) else left_out).append(found)  # type: ignore[arg-type]
    if not runs and not left_out:
        inside = "; it is a run folder itself: name the folder of all runs" if any(root.glob("config.yaml")) else ""
        inside = inside or ("; name the folder above it" if any(root.glob("seed*/config.yaml")) else "")
        raise UserError(f"{root}: no run in it (NAME/seed0/ and so on){inside}")
    return Collection(root, runs, left_out)


class _Unusable(Exception):
    """Why a run cannot be used."""

    def __init__(self, status: Literal["unfinished", "damaged"], reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


def _read(folder: Path, root: Path) -> RunRecord | LeftOut:
    path = folder.relative_to(root).as_posix()
    try:
        return _read_run(RunFolder(folder), path)
    except _Unusable as error:
        status, reason = error.status, error.reason
    except UserError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        status, reason = "damaged", error.problems[0] + more
    except OSError as error:
        status, reason = "damaged", f"{Path(str(error.filename)).name}: cannot be read: {error.strerror}"
    return LeftOut(path, folder.parent.name, int(folder.name[4:]), status, reason.replace(f"{folder}/", ""))


def _read_run(run: RunFolder, path: str) -> RunRecord:
    if not run.config.is_file():
        raise _Unusable("damaged", "no config.yaml: not a run, or one that never started")
    recipe = run.read_recipe()
    variant, seed = run.path.parent.name, int(run.path.name[4:])
    if (recipe.run.name, recipe.seed) != (variant, seed):
        raise _Unusable("damaged", f"config.yaml is of run {recipe.run.name}, seed {recipe.seed}: moved or copied here")
    rows = _checked_rows(run.read_metrics())
    if not run.summary.is_file():
        raise _Unusable("unfinished", f"{len(rows)} of {recipe.train.epochs} epochs; interrupted or still running")
    summary = _read_json(run.summary, "epochs", "stopped_early")
    if summary["epochs"] != len(rows) or not rows:
        raise _Unusable("damaged", f"summary.json counts {summary['epochs']} epochs, metrics.jsonl {len(rows)}")
    if len(rows) < recipe.train.epochs and not summary["stopped_early"]:
        raise _Unusable("unfinished", f"{len(rows)} of {recipe.train.epochs} epochs; continued with more epochs, or still running")
    env = _read_json(run.env, "fingerprint")
    files, labels, logits, class_names = _read_predictions(run.val_predictions)
    correct = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
    if abs(correct.mean() - rows[-1]["val_top1"]) > 1e-9 or not math.isclose(nll(logits, labels), rows[-1]["val_loss"], rel_tol=1e-4):
        raise _Unusable("damaged", "val_predictions.npz are not those of the last epoch: their accuracy or loss is another")
    return RunRecord(
        path=path,
        variant=variant,
        seed=seed,
        recipe=recipe,
        config=run.config.read_text(),
        env=env,
        rows=rows,
        files=files,
        labels=labels,
        correct=correct,
        class_names=class_names,
        calibration=calibrate(logits, labels) if np.isfinite(logits).all() else None,
        evaluations=tuple(sorted(page.parent.name for page in run.path.glob("eval/*/index.html"))),
    )


def _checked_rows(rows: Sequence[EpochMetrics]) -> list[EpochMetrics]:
    for number, row in enumerate(rows, start=1):
        values: dict[str, Any] = dict(row)
        absent = [key for key in ROW_KEYS if not isinstance(values.get(key), int | float) or isinstance(values[key], bool)]
        if absent:
            raise _Unusable("damaged", f"metrics.jsonl: line {number}: no number for {', '.join(absent)}")
        if row["epoch"] != number:
            raise _Unusable("damaged", f"metrics.jsonl: line {number} is of epoch {row['epoch']}")
    return list(rows)


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _Unusable("damaged", f"no {path.name}") from None
    except ValueError:
        raise _Unusable("damaged", f"{path.name}: not readable as JSON") from None
    if not isinstance(content, dict) or any(key not in content for key in keys):
        raise _Unusable("damaged", f"{path.name}: lacks {' or '.join(keys)}")
    return content


def _read_predictions(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float32], tuple[str, ...]]:
    """Files, labels, logits and class names; the counterpart of `hw1.evaluation.predictions.load_predictions`, which loads torch."""
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as saved:
            logits, labels = saved["logits"], saved["labels"]
            files, class_names = saved["files"], saved["class_names"]
        if (len(files), len(class_names)) != logits.shape or labels.shape != files.shape or not len(labels):
            raise ValueError("counts of files, labels or class names do not match the logits")
        if labels.dtype != np.int64 or labels.min() < 0 or labels.max() >= len(class_names):
            raise ValueError("labels are no classes")
        if not np.issubdtype(logits.dtype, np.floating):
            raise ValueError("logits are no numbers")
    except FileNotFoundError:
        raise _Unusable("damaged", f"no {path.name}") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise _Unusable("damaged", f"{path.name}: not readable ({' '.join(str(error).split())})") from None
    return tuple(files.tolist()), labels, logits, tuple(class_names.tolist())


Measures = Mapping[str, Callable[[RunRecord], float]]


def measured(runs: Sequence[RunRecord], measures: Measures) -> dict[str, Any]:
    """`num_seeds`, and of each measure mean and standard deviation (`<name>_std`, n - 1; None for one run)."""
    cells: dict[str, Any] = {"num_seeds": len(runs)}
    for name, measure in measures.items():
        values = np.array([measure(run) for run in runs], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # a loss may be infinite
            std = float(values.std(ddof=1)) if len(values) > 1 else None
        cells |= {name: float(values.mean()) if len(values) else None, f"{name}_std": std}
    return cells
