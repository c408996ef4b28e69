"""The images behind the numbers, small; and the figures."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource
from hw1.evaluation.calibration import confidences, cross_fit, equal_width, scale
from hw1.evaluation.confusion import ConfusedPair, order_by_confusion
from hw1.evaluation.report.analysis import Analysis
from hw1.plots import Figure, plot_confusion, plot_reliability, plot_samples

NUM_PAIRS = 8
NUM_EXAMPLES = 3
NUM_WORST = 24
NUM_ATTENDED = 4
SIDE = 160
"""Longer side of an image, pixels."""
NATURAL_ORDER = 20
"""Up to so many classes stand in their own order; more are ordered so that confused ones are neighbours."""


@dataclass(frozen=True, eq=False)
class ExampleImages:
    """`pixels[i]`: image i of the set, uint8 [H, W, 3], H and W at most `SIDE`. `pairs`: a pair, and images of its class that were taken
    for the other, worst first, and of that other class, best first. `worst`: wrong images by falling loss.
    """

    pixels: dict[int, NDArray[np.uint8]]
    pairs: list[tuple[ConfusedPair, list[int], list[int]]]
    worst: list[int]

    def jpeg(self, index: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.pixels[index]).save(buffer, "JPEG", quality=80)
        return buffer.getvalue()


def choose_examples(analysis: Analysis, images: ImageSet) -> ExampleImages:
    """The images of the most confused pairs and the worst mistakes. Raises `RunError` where a file cannot be read any more."""
    pairs = []
    for pair in analysis.pairs[:NUM_PAIRS]:
        mistaken = (analysis.labels == pair.label) & (analysis.guesses == pair.guess)
        pairs.append((pair, _by_loss(analysis, mistaken)[::-1], _by_loss(analysis, analysis.labels == pair.guess)))
    pairs = [(pair, wrong[:NUM_EXAMPLES], right[:NUM_EXAMPLES]) for pair, wrong, right in pairs]
    worst = _by_loss(analysis, analysis.labels != analysis.guesses)[::-1][:NUM_WORST]
    wanted = {i for _, wrong, right in pairs for i in (*wrong, *right)} | set(worst)
    return ExampleImages(_shrunk(images, wanted), pairs, worst)


def choose_attended(analysis: Analysis) -> list[int]:
    """Images to look into: the worst mistakes, then the right answers that are surest, each of another class."""
    worst = _by_loss(analysis, analysis.labels != analysis.guesses)[::-1][:NUM_ATTENDED]
    surest = {
        int(analysis.labels[i]): i for i in _by_loss(analysis, analysis.labels == analysis.guesses)[::-1]
    }  # the last of a class has the least loss
    return worst + sorted(surest.values(), key=lambda i: analysis.losses[i])[:NUM_ATTENDED]


def _by_loss(analysis: Analysis, chosen: NDArray[np.bool_]) -> list[int]:
    """The chosen images by rising loss."""
    indices = np.flatnonzero(chosen)
    return [int(i) for i in indices[np.argsort(analysis.losses[indices], kind="stable")]]


def _shrunk(images: ImageSet, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    source, small = FileSource(images, SIDE), {}
    for index in sorted(indices):
        photo = Image.fromarray(source.read(index))
        photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        small[index] = np.asarray(photo)
    return small


def draw_pairs(analysis: Analysis, examples: ExampleImages) -> Figure:
    """A row a pair: the mistaken images, then some of the class that they were taken for."""
    cells: list[int | None] = []
    for _, wrong, right in examples.pairs:
        for part in (wrong, right):
            cells += [*part, *[None] * (NUM_EXAMPLES - len(part))]
    return _draw_grid(analysis, examples, cells, 2 * NUM_EXAMPLES)


def draw_worst(analysis: Analysis, examples: ExampleImages) -> Figure:
    return _draw_grid(analysis, examples, examples.worst, 8)


def _draw_grid(analysis: Analysis, examples: ExampleImages, cells: Sequence[int | None], columns: int) -> Figure:
    titles = ["" if i is None else f"{analysis.names[analysis.labels[i]]}\n{guess_line(analysis, i)}" for i in cells]
    return plot_samples([None if i is None else _square(examples.pixels[i]) for i in cells], titles, columns)


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in the middle of a white square, so that titles of a row stand at one height."""
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (SIDE, SIDE), color="white"))


def guess_line(analysis: Analysis, index: int) -> str:
    """What the model says of an image, in a few words."""
    guess, confidence = analysis.guesses[index], f"{100 * analysis.confidence[index]:.0f}%"
    return f"✓ {confidence}" if guess == analysis.labels[index] else f"→ {analysis.names[guess]}, {confidence}"


def draw_confusion(analysis: Analysis) -> Figure:
    natural = np.arange(len(analysis.names))
    return plot_confusion(
        analysis.confusion, analysis.names, natural if len(natural) <= NATURAL_ORDER else order_by_confusion(analysis.confusion)
    )


def draw_reliability(analysis: Analysis, logits: NDArray[np.float32]) -> Figure:
    """As trained, and with the temperature if there is one."""
    calibration = analysis.calibration
    panels: dict[str, NDArray[Any]] = {"As trained": logits}
    if calibration.temperature is not None:
        scaled = cross_fit(logits, analysis.labels) if calibration.cross_fitted else scale(logits, calibration.temperature)
        panels[f"With temperature {calibration.temperature:.2f}"] = scaled
    correct = analysis.guesses == analysis.labels
    return plot_reliability({title: equal_width(confidences(values), correct) for title, values in panels.items()})
