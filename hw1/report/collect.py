"""Read every run below a folder and check it, or leave it out with the reason. Reads only.

Only a finished run whose files agree with each other becomes a `RunRecord`; anything else that looks like a run becomes a `LeftOut`, so
that no statistic includes it by accident.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw1.errors import UserError
from hw1.evaluation.calibration import calibrate
from hw1.evaluation.metrics import nll
from hw1.evaluation.predictions import Predictions, SavedPredictions, load_predictions
from hw1.report.run_record import Collection, LeftOut, RunRecord
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder

EPOCH_KEYS = ("epoch", "train_loss", "train_acc", "val_loss", "val_top1", "val_top5", "lr", "images_per_second", "seconds")


def collect(root: Path) -> Collection:
    """Read all runs `root/<variant>/seed<seed>/`; a damaged or unfinished run is left out.

    Raises:
        UserError: There is no such folder, or no run in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    runs: list[RunRecord] = []
    left_out: list[LeftOut] = []
    folders = [folder for folder in root.glob("*/seed*") if folder.is_dir() and re.fullmatch(r"seed\d+", folder.name)]
    for folder in sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name[4:]))):
        record = _read(folder, root)
        if isinstance(record, RunRecord):
            runs.append(record)
        else:
            left_out.append(record)
    if not runs and not left_out:
        hint = "; it is a run folder itself: name the folder of all runs" if any(root.glob("config.yaml")) else ""
        hint = hint or ("; name the folder above it" if any(root.glob("seed*/config.yaml")) else "")
        raise UserError(f"{root}: no run in it (NAME/seed0/ and so on){hint}")
    return Collection(root, runs, left_out)


class _Unusable(Exception):
    """Why a run cannot be used."""

    def __init__(self, status: Literal["unfinished", "damaged"], reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


def _read(folder: Path, root: Path) -> RunRecord | LeftOut:
    path = folder.relative_to(root).as_posix()
    status: Literal["unfinished", "damaged"] = "damaged"
    try:
        return _read_run(RunFolder(folder), path)
    except _Unusable as error:
        status, reason = error.status, error.reason
    except UserError as error:
        reason = error.problems[0] + (f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else "")
    except OSError as error:
        reason = f"{Path(str(error.filename)).name}: cannot be read: {error.strerror}"
    return LeftOut(path, folder.parent.name, int(folder.name[4:]), status, reason.replace(f"{folder}/", ""))


def _read_run(run: RunFolder, path: str) -> RunRecord:
    if not run.config.is_file():
        raise _Unusable("damaged", "no config.yaml: not a run, or one that never started")
    recipe = run.read_recipe()
    variant, seed = run.path.parent.name, int(run.path.name[4:])
    if (recipe.run.name, recipe.seed) != (variant, seed):
        raise _Unusable("damaged", f"config.yaml is of run {recipe.run.name}, seed {recipe.seed}: moved or copied here")
    epochs = run.read_metrics()
    _check_epochs(epochs)
    _check_finished(run, len(epochs), run.planned_epochs(recipe))
    env = _read_json(run.env, "fingerprint")
    predictions, files, class_names = _read_predictions(run.val_predictions, epochs[-1])
    logits, labels = predictions.logits, predictions.labels
    return RunRecord(
        path=path,
        variant=variant,
        seed=seed,
        recipe=recipe,
        config=run.config.read_text(),
        env=env,
        epochs=epochs,
        files=tuple(files),
        labels=labels,
        correct=_correct(predictions),
        class_names=tuple(class_names),
        calibration=calibrate(logits, labels) if np.isfinite(logits).all() else None,
        evaluations=tuple(sorted(page.parent.name for page in run.path.glob("eval/*/index.html"))),
    )


def _check_epochs(epochs: Sequence[EpochMetrics]) -> None:
    for number, epoch in enumerate(epochs, start=1):
        values: dict[str, Any] = dict(epoch)
        absent = [key for key in EPOCH_KEYS if not isinstance(values.get(key), int | float) or isinstance(values[key], bool)]
        if absent:
            raise _Unusable("damaged", f"metrics.jsonl: line {number}: no number for {', '.join(absent)}")
        if epoch["epoch"] != number:
            raise _Unusable("damaged", f"metrics.jsonl: line {number} is of epoch {epoch['epoch']}")


def _check_finished(run: RunFolder, num_epochs: int, planned: int) -> None:
    if not run.summary.is_file():
        raise _Unusable("unfinished", f"{num_epochs} of {planned} epochs; interrupted or still running")
    summary = _read_json(run.summary, "epochs", "stopped_early")
    if summary["epochs"] != num_epochs or not num_epochs:
        raise _Unusable("damaged", f"summary.json counts {summary['epochs']} epochs, metrics.jsonl {num_epochs}")
    if num_epochs < planned and not summary["stopped_early"]:
        raise _Unusable("unfinished", f"{num_epochs} of {planned} epochs; continued with more epochs, or still running")


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


def _read_predictions(path: Path, last: EpochMetrics) -> SavedPredictions:
    """Read the predictions of the last epoch, and check them against its metrics."""
    saved = load_predictions(path)
    logits, labels = saved.predictions.logits, saved.predictions.labels
    if not len(labels) or labels.min() < 0 or labels.max() >= len(saved.class_names):
        raise _Unusable("damaged", f"{path.name}: labels are no classes")
    if abs(_correct(saved.predictions).mean() - last["val_top1"]) > 1e-9 or not math.isclose(
        nll(logits, labels), last["val_loss"], rel_tol=1e-4
    ):
        raise _Unusable("damaged", f"{path.name} are not those of the last epoch: their accuracy or loss is another")
    return saved


def _correct(predictions: Predictions) -> NDArray[np.bool_]:
    """Return whether each top-1 prediction is correct, [N]; one with a NaN logit is not."""
    is_correct: NDArray[np.bool_] = (predictions.logits.argmax(axis=1) == predictions.labels) & ~np.isnan(predictions.logits).any(axis=1)
    return is_correct
