"""Draw the figures of an evaluation: example images, confusion matrix, reliability diagram."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hw1.evaluation.calibration import confidences, cross_fit, equal_width, scale
from hw1.evaluation.confusion import order_by_confusion
from hw1.evaluation.report.analysis import Analysis
from hw1.evaluation.report.examples import NUM_PAIR_EXAMPLES, THUMBNAIL_SIDE, ExampleImages, describe_prediction
from hw1.plots import Figure, plot_confusion, plot_reliability, plot_samples

MAX_UNORDERED_CLASSES = 20
"""Up to so many classes keep their order in the confusion matrix; more are ordered so that confused ones are neighbours."""


def pair_figure(analysis: Analysis, examples: ExampleImages) -> Figure:
    """Draw a row per confused pair: the mistaken images, then some of the class that was predicted."""
    cells: list[int | None] = []
    for _, mistaken, compared in examples.pairs:
        for indices in (mistaken, compared):
            cells += [*indices, *[None] * (NUM_PAIR_EXAMPLES - len(indices))]
    return _plot_cells(analysis, examples, cells, 2 * NUM_PAIR_EXAMPLES)


def worst_figure(analysis: Analysis, examples: ExampleImages) -> Figure:
    """Draw the wrong predictions with the largest losses."""
    return _plot_cells(analysis, examples, examples.worst, 8)


def confusion_figure(analysis: Analysis) -> Figure:
    """Draw the confusion matrix."""
    num_classes = len(analysis.names)
    order = np.arange(num_classes) if num_classes <= MAX_UNORDERED_CLASSES else order_by_confusion(analysis.confusion)
    return plot_confusion(analysis.confusion, analysis.names, order)


def reliability_figure(analysis: Analysis, logits: NDArray[np.float32]) -> Figure:
    """Draw the reliability diagram of the unscaled logits [N, C], and with the temperature if there is one."""
    calibration = analysis.calibration
    panels: dict[str, NDArray[Any]] = {"As trained": logits}
    if calibration.temperature is not None:
        scaled = cross_fit(logits, analysis.labels) if calibration.cross_fitted else scale(logits, calibration.temperature)
        panels[f"With temperature {calibration.temperature:.2f}"] = scaled
    return plot_reliability({title: equal_width(confidences(values), analysis.correct) for title, values in panels.items()})


def _plot_cells(analysis: Analysis, examples: ExampleImages, cells: Sequence[int | None], columns: int) -> Figure:
    titles = ["" if i is None else f"{analysis.names[analysis.labels[i]]}\n{describe_prediction(analysis, i)}" for i in cells]
    return plot_samples([None if i is None else _pad_to_square(examples.pixels[i]) for i in cells], titles, columns)


def _pad_to_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centre an image in a white square, so that the titles of a row are at one height."""
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), color="white"))
