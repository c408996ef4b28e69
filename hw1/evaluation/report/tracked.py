"""Add an evaluation to the trackers of the run that it belongs to."""

import os

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import Recipe
from hw1.data.image_set import ImageSet
from hw1.evaluation.report.analysis import Analysis
from hw1.evaluation.report.media import figures, tables
from hw1.runs.folder import RunFolder
from hw1.tracking.start import reopen_trackers
from hw1.tracking.tracker import At
from hw1.tracking.wandb_environment import with_environment
from hw1.utils.console import say
from hw1.utils.text import one_line


def track_evaluation(run: RunFolder, recipe: Recipe, name: str, images: ImageSet, logits: NDArray[np.float32], analysis: Analysis) -> None:
    """Give numbers, figures and tables of an evaluation to the trackers of the run, as `eval/<name>/...`; nothing where it has none.

    Args:
        run: The evaluated run.
        recipe: Its recipe.
        name: Name of the evaluation's folder.
        images: The images, N.
        logits: Unscaled logits, [N, C].
        analysis: Of these logits.
    """
    recipe, _ = with_environment(recipe, (), os.environ)
    group, with_images = f"eval/{name}", "images" in recipe.log.upload
    content = f"metrics, figures and tables of {len(images)} images{', and photographs of them' if with_images else ''}"
    trackers, step = reopen_trackers(recipe, run, group, content)
    if not trackers:
        return
    try:
        at = At(step, int(analysis.metrics["epoch"]))
        numbers = {f"{group}/{key}": float(value) for key, value in analysis.metrics.items() if isinstance(value, float | int)}
        trackers.scalars(numbers, at)
        trackers.images(figures(analysis, logits, group), at)
        trackers.tables(tables(analysis, images if with_images else None, group), at)
        trackers.finish(failed=False)
    except Exception as error:  # the evaluation is on disk, whatever becomes of the trackers
        say(f"{run.path}: trackers: {one_line(error)}; the evaluation is complete without")
