"""The files of an evaluation: JSON, CSV, figures and the page."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.data.image_set import ImageSet
from hw1.evaluation.report.analysis import Analysis, calibration_json, class_table, pair_table, worst_table
from hw1.evaluation.report.examples import choose_examples
from hw1.evaluation.report.figures import confusion_figure, pair_figure, reliability_figure, worst_figure
from hw1.evaluation.report.page import render_evaluation
from hw1.html.table import to_csv
from hw1.plots import Figure, render_figure
from hw1.runs.folder import RunFolder
from hw1.utils.text import to_bytes


def evaluation_files(
    run: RunFolder, split: str, images: ImageSet, logits: NDArray[np.float32], analysis: Analysis, attention: Figure | None = None
) -> dict[str, bytes]:
    """Return all files of an evaluation but the predictions, by name.

    Args:
        run: The evaluated run.
        split: Name of the split.
        images: The images, N.
        logits: Unscaled logits, [N, C].
        analysis: The evaluation.
        attention: Figure of the images of `choose_for_attention`; None where there is none.

    Raises:
        RunError: An image cannot be read any more.
    """
    examples = choose_examples(analysis, images)
    figures = {"confusion": confusion_figure(analysis), "calibration": reliability_figure(analysis, logits)}
    if examples.worst:
        figures |= {"confused": pair_figure(analysis, examples), "worst": worst_figure(analysis, examples)}
    if attention:
        figures["attention"] = attention
    pngs = {name: render_figure(figure, "png") for name, figure in figures.items()}
    page = render_evaluation(
        run, split, analysis, examples, {name: pngs[name] for name in ("confusion", "calibration", "attention") if name in pngs}
    )
    files = {f"{table.name}.csv": to_bytes(to_csv(table)) for table in (class_table(analysis), pair_table(analysis), worst_table(analysis))}
    files |= {f"{name}.png": png for name, png in pngs.items()}
    return files | {
        "metrics.json": _json(analysis.metrics), "calibration.json": _json(calibration_json(analysis)), "index.html": page.encode(),
    }  # fmt: skip


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
