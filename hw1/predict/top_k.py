"""Classify files: the likeliest classes of each image, in order. No torch."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.data.decode import BadImage
from hw1.errors import RunError
from hw1.evaluation.metrics import log_softmax
from hw1.predict.image_batches import read_images
from hw1.utils.text import printable

if TYPE_CHECKING:
    from hw1.predict.classifier import Classifier


class ClassProbability(NamedTuple):
    """A class and its probability.

    Attributes:
        label: Name of the class folder.
        description: What people call the class; the label if there is nothing else.
        probability: 0-1.
    """

    label: str
    description: str
    probability: float


class ImagePrediction(NamedTuple):
    """The prediction for one image.

    Attributes:
        position: Position in the list of files.
        path: The file.
        top_classes: The likeliest classes, by decreasing probability.
    """

    position: int
    path: Path
    top_classes: list[ClassProbability]


def classify(
    classifier: "Classifier", paths: Sequence[Path], temperature: float, num_classes: int, on_bad: Callable[[BadImage], None]
) -> Iterator[ImagePrediction]:
    """Predict the likeliest classes of each image that can be read, by softmax(logits / temperature).

    Args:
        classifier: The model.
        paths: The images.
        temperature: Divides the logits.
        num_classes: How many classes of each image; ties go to the lower class.
        on_bad: Called with the error of an image that cannot be read; it may raise.

    Yields:
        The predictions, in the order of `paths`.

    Raises:
        RunError: The model answers with NaN or infinity.
    """
    for batch in read_images(paths, classifier.rule, classifier.batch_size, on_bad):
        batch_paths = [paths[position] for position in batch.positions]
        answers = likeliest_classes(classifier, batch.pixels, temperature, num_classes, batch_paths)
        yield from map(ImagePrediction, batch.positions, batch_paths, answers)


def likeliest_classes(
    classifier: "Classifier", pixels: NDArray[np.uint8], temperature: float, num_classes: int, names: Sequence[object]
) -> list[list[ClassProbability]]:
    """Return the likeliest classes of each image of a batch, by softmax(logits / temperature); ties go to the lower class.

    Args:
        classifier: The model.
        pixels: The images, uint8 [B, S, S, 3].
        temperature: Divides the logits.
        num_classes: How many classes of each image.
        names: What an error calls each image, B.

    Raises:
        RunError: The model answers with NaN or infinity.
    """
    logits = classifier.logits(pixels)
    if not (finite := np.isfinite(logits).all(axis=1)).all():
        raise RunError(f"{printable(names[int(finite.argmin())])}: the model's answer is not a finite number")
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :num_classes]
    probabilities = np.exp(log_softmax(logits / np.float64(temperature)))
    labels = classifier.class_names
    return [
        [ClassProbability(labels[c], classifier.descriptions.get(labels[c], labels[c]), float(row[c])) for c in classes]
        for classes, row in zip(likeliest, probabilities, strict=True)
    ]
