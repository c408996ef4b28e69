"""Images that one variant has right and the baseline wrong, or the other way round, with photographs where they can still be read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.errors import RunError
from hw1.report.pair_results import PairResult
from hw1.report.run_record import RunRecord

NUM_SHOWN = 8
"""Images of each kind."""
MAX_PAIRS = 6
"""Variants of which images are shown; the page says so where there are more."""


class ChangedImage(NamedTuple):
    """An image that the two sides do not agree on.

    Attributes:
        file: Its name.
        label: Its class.
        without: What the baseline's first run takes it for, and how surely.
        with_: The same of the variant's run of that seed.
        seeds: In how many seeds only one side is right, less those in which only the other is.
        jpeg: Its thumbnail as JPEG; empty where it cannot be read any more.
    """

    file: str
    label: str
    without: str
    with_: str
    seeds: int
    jpeg: bytes


@dataclass(frozen=True, eq=False)
class ChangedImages:
    """The images that a variant changes.

    Attributes:
        result: The variant and its baseline.
        num_fixed: Images that are wrong in every seed of the baseline and right in every seed of the variant.
        num_broken: Images of which the reverse holds.
        fixed: Those that are fixed in most seeds.
        broken: Those that are broken in most seeds.
    """

    result: PairResult
    num_fixed: int
    num_broken: int
    fixed: list[ChangedImage]
    broken: list[ChangedImage]


def changed_images(results: Sequence[PairResult]) -> list[ChangedImages]:
    """Return the images that the first comparable variants change."""
    return [_changed(result) for result in results if result.verdict][:MAX_PAIRS]


def _changed(result: PairResult) -> ChangedImages:
    without, with_ = result.matched.correct
    gain = with_.sum(axis=0, dtype=np.int64) - without.sum(axis=0, dtype=np.int64)
    num_seeds = len(without)
    surest = np.max([run.confidence for run in result.matched.runs], axis=0)
    return ChangedImages(
        result,
        int((gain == num_seeds).sum()),
        int((gain == -num_seeds).sum()),
        [_image(result, i, int(gain[i])) for i in _most(gain, surest)],
        [_image(result, i, int(-gain[i])) for i in _most(-gain, surest)],
    )


def _most(gain: NDArray[np.int64], surest: NDArray[np.float32]) -> list[int]:
    """Return the images that gain in most seeds, among equal ones those that some run is surest of."""
    order = np.lexsort((-surest, -gain))
    return [int(i) for i in order[:NUM_SHOWN] if gain[i] > 0]


def _image(result: PairResult, index: int, seeds: int) -> ChangedImage:
    without, with_ = _telling_seed(result, index)
    return ChangedImage(
        file=without.files[index],
        label=without.class_names[without.labels[index]],
        without=_prediction(without, index),
        with_=_prediction(with_, index),
        seeds=seeds,
        jpeg=_thumbnail(without.recipe.data.root, without.files[index]) if without.recipe.data.dataset is None else b"",
    )


def _telling_seed(result: PairResult, index: int) -> tuple[RunRecord, RunRecord]:
    """Return the runs of the first seed in which the sides do not agree on the image."""
    pairs = zip(result.matched.without, result.matched.with_, strict=True)
    return next((a, b) for a, b in pairs if a.correct[index] != b.correct[index])


def _prediction(run: RunRecord, index: int) -> str:
    predicted = int(run.predicted[index])
    return f"{run.class_names[predicted] or predicted}, {100 * run.confidence[index]:.0f}%"


@cache
def _thumbnail(root: str | None, file: str) -> bytes:
    """Read an image of `data.root` as a small JPEG; nothing where it is not there any more, or would lie elsewhere."""
    from hw1.data.image_set import ImageSet
    from hw1.evaluation.report.examples import encode_jpeg, read_thumbnails  # loads OpenCV

    if root is None or PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or not os.path.isfile(Path(root) / file):
        return b""
    try:
        return encode_jpeg(read_thumbnails(ImageSet(Path(root), (file,), None, 0), [0])[0])
    except RunError:
        return b""
