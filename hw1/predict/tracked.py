"""Add predictions to the trackers of the run whose model made them."""

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from hw1.data.decode import read_image
from hw1.predict.top_k import ImagePrediction
from hw1.predict.writers import Writer
from hw1.runs.folder import RunFolder
from hw1.tracking.start import has_trackers, reopen_trackers
from hw1.tracking.tracker import At, Table
from hw1.tracking.wandb_environment import with_environment
from hw1.utils.console import say
from hw1.utils.text import one_line


@contextmanager
def tracker_writer(path: Path) -> Iterator[list[Writer]]:
    """Give the predictions to the run's trackers at the end of the block: their number, and a table of the least confident ones.

    Args:
        path: The run folder; anything else has no trackers.

    Yields:
        The writer, in a list; no writer where the run has no trackers.
    """
    run = RunFolder(path)
    recipe = run.read_recipe() if run.config.is_file() else None
    if recipe is None or not has_trackers((recipe := with_environment(recipe, (), os.environ)[0]).log):
        yield []
        return
    from hw1.evaluation.report.media import NUM_SHOWN  # matplotlib and scipy take a second to import: only where there are trackers

    kept: list[tuple[float, int, ImagePrediction]] = []  # a heap: the most confident of those kept comes first
    num = 0

    def write(prediction: ImagePrediction) -> None:
        nonlocal num
        num += 1
        (heapq.heappush if num <= NUM_SHOWN else heapq.heappushpop)(
            kept, (-prediction.top_classes[0].probability, -prediction.position, prediction)
        )

    yield [write]
    try:
        with_images = "images" in recipe.log.upload
        content = f"{min(num, NUM_SHOWN)} predictions{' with their images' if with_images else ''}"
        trackers, step = reopen_trackers(recipe, run, "predict", content)
        at = At(step, len(run.read_metrics()))
        trackers.scalars({"predict/num_images": num}, at)
        trackers.tables({"predict/predictions": _table([item[2] for item in sorted(kept, reverse=True)], with_images=with_images)}, at)
        trackers.finish(failed=False)
    except Exception as error:  # the predictions are written, whatever becomes of the trackers
        say(f"{run.path}: trackers: {one_line(error)}; the predictions are complete without")


def _table(predictions: list[ImagePrediction], *, with_images: bool) -> Table:
    rows: list[list[str | float | Image.Image | None]]
    rows = [[str(each.path), each.top_classes[0].description, each.top_classes[0].probability] for each in predictions]
    names = ["file", "predicted", "confidence"]
    if not with_images:
        return Table(names, rows)
    return Table(["image", *names], [[_thumbnail(each.path), *row] for each, row in zip(predictions, rows, strict=True)])


def _thumbnail(path: Path) -> Image.Image:
    from hw1.evaluation.report.examples import THUMBNAIL_SIDE
    from hw1.evaluation.report.media import photograph

    image = Image.fromarray(read_image(path, THUMBNAIL_SIDE))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return photograph(np.asarray(image))
