"""Choose the images that illustrate an evaluation, and read them as thumbnails."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource
from hw1.evaluation.confusion import ConfusedPair
from hw1.evaluation.report.analysis import Analysis

NUM_PAIRS = 8
NUM_PAIR_EXAMPLES = 3
NUM_WORST = 24
NUM_ATTENTION_EXAMPLES = 4
THUMBNAIL_SIDE = 160  # longer side, pixels


class PairExamples(NamedTuple):
    """Positions of the images that illustrate a confused pair.

    Attributes:
        pair: The pair.
        mistaken: Images of the class that were predicted as the other, the largest loss first.
        compared: Images of that other class, the smallest loss first.
    """

    pair: ConfusedPair
    mistaken: list[int]
    compared: list[int]


@dataclass(frozen=True, eq=False)
class ExampleImages:
    """The images that illustrate an evaluation.

    Attributes:
        pixels: Position -> thumbnail, uint8 [H, W, 3], RGB, H and W at most `THUMBNAIL_SIDE`.
        pairs: Examples of the most confused pairs.
        worst: Positions of wrong predictions, the largest loss first.
    """

    pixels: dict[int, NDArray[np.uint8]]
    pairs: list[PairExamples]
    worst: list[int]

    def jpeg(self, index: int) -> bytes:
        """Encode the thumbnail of the image at position `index` as JPEG."""
        return encode_jpeg(self.pixels[index])


def choose_examples(analysis: Analysis, images: ImageSet) -> ExampleImages:
    """Choose and read the images of the most confused pairs and of the worst mistakes.

    Raises:
        RunError: A file cannot be read any more.
    """
    pairs = []
    for pair in analysis.pairs[:NUM_PAIRS]:
        mistaken = analysis.by_loss((analysis.labels == pair.label) & (analysis.predicted == pair.predicted))[::-1]
        compared = analysis.by_loss(analysis.labels == pair.predicted)
        pairs.append(PairExamples(pair, mistaken[:NUM_PAIR_EXAMPLES], compared[:NUM_PAIR_EXAMPLES]))
    worst = analysis.by_loss(~analysis.correct)[::-1][:NUM_WORST]
    chosen = {i for examples in pairs for i in (*examples.mistaken, *examples.compared)} | set(worst)
    return ExampleImages(read_thumbnails(images, chosen), pairs, worst)


def choose_for_attention(analysis: Analysis) -> list[int]:
    """Choose images for Grad-CAM: the worst mistakes, then the best correct predictions, each of another class."""
    worst = analysis.by_loss(~analysis.correct)[::-1][:NUM_ATTENTION_EXAMPLES]
    best_of_class: dict[int, int] = {}
    for i in analysis.by_loss(analysis.correct):
        best_of_class.setdefault(int(analysis.labels[i]), i)
    return worst + list(best_of_class.values())[:NUM_ATTENTION_EXAMPLES]


def describe_prediction(analysis: Analysis, index: int) -> str:
    """Describe the prediction for an image in a few words: its confidence, and the predicted class if it is wrong."""
    predicted, confidence = analysis.predicted[index], f"{100 * analysis.confidence[index]:.0f}%"
    return f"✓ {confidence}" if predicted == analysis.labels[index] else f"→ {analysis.names[predicted]}, {confidence}"


def read_thumbnails(images: ImageSet, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    """Read the images at `indices`, by position: uint8 [H, W, 3], RGB, H and W at most `THUMBNAIL_SIDE`.

    Raises:
        RunError: A file cannot be read any more.
    """
    source, thumbnails = FileSource(images, THUMBNAIL_SIDE), {}
    for index in sorted(indices):
        image = Image.fromarray(source.read(index))
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
        thumbnails[index] = np.asarray(image)
    return thumbnails


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a thumbnail, uint8 [H, W, 3], RGB, as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
