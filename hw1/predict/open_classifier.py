"""Open a run folder, an exported folder or an `.onnx` file to predict with it. torch is imported only for the first two."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hw1.config.recipe import TrainConfig
from hw1.errors import UserError
from hw1.predict.classifier import Classifier
from hw1.predict.export_checks import FOREIGN
from hw1.runs.folder import RunFolder
from hw1.utils.text import one_line

if TYPE_CHECKING:
    from hw1.evaluation.predictor import Checkpoint


def open_classifier(path: Path, checkpoint: "Checkpoint | None", train: TrainConfig) -> Classifier:
    """Open a model.

    Args:
        path: A run folder, a folder that `hw1.export` wrote, or an `.onnx` file.
        checkpoint: Weights of a run folder; None for the best, and for anything else.
        train: Says on which device to compute.

    Raises:
        UserError: The path is none of the three, or damaged, or `checkpoint` is given for something that is no run folder.
    """
    if path.suffix == ".onnx" or (path / "config.json").is_file():
        if checkpoint is not None:
            raise UserError(f"--checkpoint: {path} holds one set of weights; only a run folder has several")
        if path.suffix == ".onnx":
            from hw1.predict.onnx_model import open_onnx

            classifier = open_onnx(path, train)
        else:
            from hw1.predict.torch_model import open_export

            classifier = open_export(path, train)
        _try(path, classifier)
        return classifier
    run = RunFolder.existing(path)

    from hw1.predict.torch_model import open_run  # torch takes seconds to import

    return open_run(run, checkpoint or "best", train)


def _try(path: Path, classifier: Classifier) -> None:
    """Raise `UserError` unless the model of a file of unknown origin answers for an image with a finite number for each class."""
    try:
        size = classifier.rule.size
        logits = classifier.logits(np.zeros((1, size, size, 3), np.uint8))
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: its model fails ({one_line(error)})") from None
    if logits.shape != (1, len(classifier.class_names)):
        raise UserError(f"{path}: {FOREIGN} ({logits.shape[-1]} outputs, but {len(classifier.class_names)} class names)")
    if not np.isfinite(logits).all():
        raise UserError(f"{path}: the model's answer is not a finite number")
