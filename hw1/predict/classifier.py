"""A model as `hw1.predict` uses it: one function from images to logits, with the names of the classes. No torch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw1.data.augment.eval_resize import EvalRule
from hw1.evaluation.temperature import FittedTemperature
from hw1.utils.text import on_one_line

if TYPE_CHECKING:
    from hw1.evaluation.predictor import Predictor
    from hw1.models.preprocess import WithPreprocess

ONNX_MISSING = "is not installed; pip install -r requirements-onnx.txt"
BATCH_SIZE = 64  # of a model that comes without a recipe

LogitsFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Computes logits [B, C] of resized RGB images [B, S, S, 3]."""


@dataclass(frozen=True)
class Classifier:
    """A model as `hw1.predict` uses it.

    Attributes:
        class_names: Name of each class folder, never empty.
        descriptions: What people call the classes, by their names; classes without a description are absent.
        rule: How an image becomes a square of the model's size.
        logits: Computes logits of such images.
        fitted: The temperature fitted on the validation split; None if none was fitted.
        batch_size: Images at a time.
        model: The network in FP32, in whose features Grad-CAM looks; None for an `.onnx` file.
    """

    class_names: tuple[str, ...]
    descriptions: dict[str, str]
    rule: EvalRule
    logits: LogitsFunction
    fitted: FittedTemperature | None
    batch_size: int = BATCH_SIZE
    model: "WithPreprocess | None" = None


def class_names(predictor: "Predictor") -> tuple[str, ...]:
    """Return the name of each class, as in a submission: an integer label without a folder is named by its number."""
    return tuple(name or str(label) for label, name in enumerate(predictor.classes.names))


def read_class_descriptions(root: str | None, names: Sequence[str]) -> dict[str, str]:
    """Read what `class_names.json` in the data's root calls the class folders: name -> description; empty if there is no such file."""
    try:
        content = json.loads((Path(root or "") / "class_names.json").read_bytes())
        return {name: on_one_line(content[name]) for name in names if isinstance(content.get(name), str)}
    except (OSError, ValueError, AttributeError, RecursionError):  # no such file, or another one of that name
        return {}
