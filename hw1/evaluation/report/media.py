"""What trackers show of an evaluation: figures, and tables with thumbnails."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.data.image_set import ImageSet
from hw1.evaluation.report.analysis import Analysis
from hw1.evaluation.report.examples import read_thumbnails
from hw1.evaluation.report.figures import confusion_figure, reliability_figure
from hw1.plots import Figure, render_figure
from hw1.tracking.tracker import Table

NUM_SHOWN = 100
"""Images in the table of predictions, the largest loss first."""


def figures(analysis: Analysis, logits: NDArray[np.float32], group: str) -> dict[str, Image.Image]:
    """Return the confusion matrix and the reliability diagram.

    Args:
        analysis: The evaluation.
        logits: Unscaled logits, [N, C].
        group: First part of the names.
    """
    drawn = {"confusion_matrix": confusion_figure(analysis), "calibration": reliability_figure(analysis, logits)}
    return {f"{group}/{name}": to_image(figure) for name, figure in drawn.items()}


def tables(analysis: Analysis, images: ImageSet | None, group: str) -> dict[str, Table]:
    """Return the table of the classes, and that of the images with the largest losses.

    Args:
        analysis: The evaluation.
        images: The images, shown as thumbnails; None for names alone.
        group: First part of the names.

    Raises:
        RunError: An image cannot be read any more.
    """
    columns = ("class", "support", "precision", "recall", "f1")
    per_class = Table(columns, [[row[column] for column in columns] for row in analysis.class_metrics])
    worst = [int(i) for i in np.argsort(-analysis.losses, kind="stable")[:NUM_SHOWN]]
    rows: list[list[Any]] = [
        [
            analysis.files[i],
            analysis.names[analysis.labels[i]],
            analysis.names[analysis.predicted[i]],
            float(analysis.confidence[i]),
            float(analysis.losses[i]),
        ]
        for i in worst
    ]
    names = ["file", "true", "predicted", "confidence", "loss"]
    if images is not None:
        thumbnails = read_thumbnails(images, worst)
        rows = [[photograph(thumbnails[i]), *row] for i, row in zip(worst, rows, strict=True)]
        names = ["image", *names]
    return {f"{group}/per_class": per_class, f"{group}/predictions": Table(names, rows)}


def photograph(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels, uint8 [H, W, 3], as an image that trackers may send as JPEG."""
    image = Image.fromarray(pixels)
    image.info["photograph"] = True
    return image


def to_image(figure: Figure) -> Image.Image:
    """Return a figure as an image."""
    return Image.open(io.BytesIO(render_figure(figure, "png")))
