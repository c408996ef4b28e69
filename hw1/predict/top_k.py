"""Classifier and files -> rows, one an image, in order. No torch."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hw1.data.decode import BadImage
from hw1.evaluation.metrics import log_softmax
from hw1.predict.image_batches import read_images

if TYPE_CHECKING:
    from hw1.predict.classifier import Classifier


class Guess(NamedTuple):
    label: str
    """The class folder's own name."""
    words: str
    """What people call the class; its label where there is nothing else."""
    probability: float


class Row(NamedTuple):
    """What the model says of one image: the likeliest classes, falling."""

    position: int
    """In the list of files."""
    path: Path
    guesses: list[Guess]


def classify(
    classifier: "Classifier", paths: Sequence[Path], temperature: float, top: int, on_bad: Callable[[BadImage], None]
) -> Iterator[Row]:
    """The `top` likeliest classes of each image that can be read, by softmax(logits / temperature); ties go to the lower class."""
    for batch in read_images(paths, classifier.size, classifier.batch_size, on_bad):
        logits = classifier.logits(batch.pixels)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :top]
        probabilities = np.exp(log_softmax(logits / np.float64(temperature)))
        for position, order, row in zip(batch.positions, best, probabilities, strict=True):
            labels = [classifier.names[label] for label in order]
            guesses = [
                Guess(name, classifier.words.get(name, name), value) for name, value in zip(labels, row[order].tolist(), strict=True)
            ]
            yield Row(position, paths[position], guesses)
