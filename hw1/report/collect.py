"""Read runs and check each, or leave it out with the reason. Reads only.

Only a finished run whose files agree with each other becomes a `RunRecord`; anything else that looks like a run becomes a `LeftOut`, so
that no statistic includes it by accident.
"""

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import Recipe
from hw1.errors import UserError
from hw1.evaluation.calibration import Calibration, calibrate, confidences, measure
from hw1.evaluation.metrics import nll
from hw1.evaluation.predictions import Predictions, SavedPredictions, load_predictions
from hw1.report.find_runs import SEED_FOLDER, find_runs
from hw1.report.run_record import Collection, LeftOut, RunRecord
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder

MAX_CALIBRATED = 60
"""Of more runs than this no temperature is fitted, nor the ECE by chance drawn: both take a fifth of a second a run and more."""
EPOCH_KEYS = ("epoch", "train_loss", "train_acc", "val_loss", "val_top1", "val_top5", "lr", "images_per_second", "seconds")


def collect(*paths: Path) -> Collection:
    """Read all runs in `paths`; a damaged or unfinished run, and a copy of another one, is left out.

    Args:
        paths: Run folders, and folders of run folders.

    Raises:
        UserError: There is no such folder, or no run in it.
    """
    folders = find_runs(paths)
    root = Path(os.path.commonpath([os.path.abspath(folder.parent.parent) for folder in folders]))
    shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
    records = [_read(folder, os.path.relpath(os.path.abspath(folder), root), len(folders) <= MAX_CALIBRATED) for folder in folders]
    records = _without_copies(records)
    return Collection(
        shown,
        [record for record in records if isinstance(record, RunRecord)],
        [record for record in records if isinstance(record, LeftOut)],
    )


class _Unusable(Exception):
    """Why a run cannot be used."""

    def __init__(self, status: Literal["unfinished", "damaged"], reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


def _read(folder: Path, path: str, fit_temperature: bool) -> RunRecord | LeftOut:
    status: Literal["unfinished", "damaged"] = "damaged"
    run, recipe = RunFolder(folder), None
    try:
        if not run.config.is_file():
            raise _Unusable("damaged", "no config.yaml: not a run, or one that never started")
        recipe = run.read_recipe()
        return _read_run(run, recipe, path, fit_temperature)
    except _Unusable as error:
        status, reason = error.status, error.reason
    except UserError as error:
        reason = error.problems[0] + (f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else "")
    except OSError as error:
        reason = f"{Path(str(error.filename)).name}: cannot be read: {error.strerror}"
    numbered = SEED_FOLDER.fullmatch(folder.name)
    name = folder.parent.name if numbered else folder.name
    return LeftOut(
        folder=folder,
        path=path,
        variant=str(recipe.run.name) if recipe else name,
        seed=int(numbered[1]) if numbered else recipe.seed if recipe else None,
        status=status,
        reason=reason.replace(f"{folder}/", ""),
        recipe=recipe,
        epochs=_readable_epochs(run),
    )


def _read_run(run: RunFolder, recipe: Recipe, path: str, fit_temperature: bool) -> RunRecord:
    numbered = SEED_FOLDER.fullmatch(run.path.name)
    if numbered and int(numbered[1]) != recipe.seed:
        raise _Unusable("damaged", f"config.yaml is of run {recipe.run.name}, seed {recipe.seed}: moved or copied here")
    epochs = run.read_metrics()
    for number, epoch in enumerate(epochs, start=1):
        _check_epoch(epoch, number)
    _check_finished(run, len(epochs), run.planned_epochs(recipe))
    env = _read_json(run.env, "fingerprint")
    predictions, files, class_names = _read_predictions(run.val_predictions, epochs[-1])
    logits, labels = predictions.logits, predictions.labels
    return RunRecord(
        folder=run.path,
        path=path,
        variant=str(recipe.run.name),
        seed=recipe.seed,
        recipe=recipe,
        config=run.config.read_text(),
        env=env,
        epochs=epochs,
        files=tuple(files),
        labels=labels,
        correct=_correct(predictions),
        predicted=logits.argmax(axis=1).astype(np.int32),
        confidence=confidences(logits).astype(np.float32),
        class_names=tuple(class_names),
        calibration=_calibrate(predictions, fit_temperature),
        evaluations=tuple(sorted(page.parent.name for page in run.path.glob("eval/*/index.html"))),
    )


def _calibrate(predictions: Predictions, fit_temperature: bool) -> Calibration | None:
    if not np.isfinite(predictions.logits).all():
        return None
    if fit_temperature:
        return calibrate(predictions.logits, predictions.labels)
    return Calibration(measure(predictions.logits, predictions.labels), (math.nan, math.nan))


def _without_copies(records: Sequence[RunRecord | LeftOut]) -> list[RunRecord | LeftOut]:
    """Leave out each run whose recipe, environment and epochs are those of an earlier one: a copy would count twice."""
    first: dict[str, str] = {}
    kept: list[RunRecord | LeftOut] = []
    for record in records:
        if isinstance(record, RunRecord):
            content = json.dumps([record.recipe.model_dump(mode="json", exclude={"run"}), record.env, record.epochs], sort_keys=True)
            original = first.setdefault(content, record.path)
            if original != record.path:
                reason = f"a copy of {original}"
                record = LeftOut(record.folder, record.path, record.variant, record.seed, "copy", reason, record.recipe, [])
        kept.append(record)
    return kept


def _readable_epochs(run: RunFolder) -> list[EpochMetrics]:
    """Read the epochs up to the first that is damaged."""
    epochs: list[EpochMetrics] = []
    with suppress(OSError, ValueError, _Unusable):
        for number, line in enumerate(run.metrics_jsonl.read_bytes().splitlines(), start=1):
            epoch = json.loads(line)
            if not isinstance(epoch, dict):
                break
            _check_epoch(cast(EpochMetrics, epoch), number)
            epochs.append(cast(EpochMetrics, epoch))
    return epochs


def _check_epoch(epoch: EpochMetrics, number: int) -> None:
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
