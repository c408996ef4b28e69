"""Render the report as one self-contained HTML file: no server, no internet, no other file."""

import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hw1.ablate.variants import NUM_PUBLISHED_IMAGES
from hw1.config.strict_yaml import dump_yaml
from hw1.html.page import data_link, render_page
from hw1.report.compare.changed_images import ChangedImage, ChangedImages
from hw1.report.compare.class_gains import class_sentence
from hw1.report.compare.curves import PANELS, PAPER_FIGURES
from hw1.report.content import Report
from hw1.report.pair_results import PairResult
from hw1.report.pairing import data_differences, factor_lines
from hw1.report.run_record import RunRecord
from hw1.report.run_tables import shorten_lines
from hw1.utils.text import counted, some_of

TITLE = "Report of runs"
MAX_DETAILED = 60
"""Runs up to which the page holds each one's recipe and environment."""
ABLATION_TABLES = ("seeds", "calibration_pairs")


def render_report(out: Path, report: Report) -> str:
    """Render the page.

    Args:
        out: The folder of the page; links to evaluations are relative to it.
        report: What it shows.
    """
    from plotly.offline import get_plotlyjs

    runs = report.collection.runs
    detailed = runs if len(runs) <= MAX_DETAILED else []
    compared = [result for result in report.comparisons.results if result.matched.runs]
    pairs = [result for result in report.ablation.results if result.matched.runs]
    values = {
        "title": TITLE,
        "sections": _sections(report).items(),
        "summary": _summary(report),
        "facts": _facts(report),
        "differences": shorten_lines(data_differences(runs)),
        "tables": report.tables,
        "panels": [
            (number, panel, [f"{figure}.png", f"{figure}.svg"])
            for number, (panel, figure) in enumerate(zip(PANELS, PAPER_FIGURES, strict=True))
            if f"{figure}.png" in report.curve_files
        ],
        "curves": report.curves,
        "comparisons": report.comparisons,
        "compared": [_card(result) for result in compared],
        "uncompared": [result for result in report.comparisons.results if not result.matched.runs],
        "class_sentences": [(result.pair.with_, class_sentence(result)) for result in compared if result.verdict],
        "changed": [
            (item, [(title, [_thumbnail(image) for image in images]) for title, images in _kinds(item)]) for item in report.changed
        ],
        "ablation": report.ablation,
        "pairs": [_card(result) for result in pairs],
        "pair_tables": [
            report.tables[name] for name in [f"pair_{result.pair.name}" for result in pairs] + [*ABLATION_TABLES] if name in report.tables
        ],
        "num_published": NUM_PUBLISHED_IMAGES,
        "published": [result for result in report.ablation.results if result.published],
        "runs": [(run, dump_yaml(run.env), _evaluations(out, run)) for run in detailed],
        "run_ids": {run.path: f"run-{number}" for number, run in enumerate(detailed)},
    }
    script = files("hw1.report").joinpath("curves.js").read_text()
    return render_page("hw1.report", values, [get_plotlyjs(), script])


def _sections(report: Report) -> dict[str, str]:
    return {
        "compared": "Runs",
        "curves": "Curves",
        **({"comparisons": "Comparisons"} if report.comparisons.adjustment or report.comparisons.results else {}),
        **({"classes": "Classes"} if "classes" in report.tables else {}),
        **({"calibration": "Calibration"} if "calibration" in report.tables else {}),
        **({"images": "Images"} if report.changed else {}),
        **({"ablation": "Ablation"} if report.ablation.results or report.ablation.missing else {}),
        "runs": "Details",
    }


def _summary(report: Report) -> str:
    """Say what is compared."""
    runs, left_out = report.collection.runs, report.collection.left_out
    names = [variant.name for variant in report.variants]
    text = f"{counted(len(runs), 'finished run')} of {counted(len(names), 'variant')} ({some_of(names, 6)})"
    if left_out:
        drawn = sum(bool(run.epochs and run.recipe) for run in left_out)
        text += f"; {counted(len(left_out), 'run')} unfinished, damaged or a copy, {drawn} of them drawn as far as they went"
    keys = report.tables.get("settings")
    if keys and len(names) > 1:
        changed = [column for column in keys.rows[0] if column != "variant"]
        text += f". Their recipes differ in {some_of(changed, 6)}"
    elif len(names) > 1:
        text += ". Their recipes are the same"
    return f"{text}."


def _facts(report: Report) -> list[tuple[str, str]]:
    """Summarize what was run; several values where the runs differ."""
    runs = report.collection.runs
    facts = [("Folder", str(report.collection.root))]
    if not runs:
        return facts
    sizes, epochs = (f"{run.recipe.aug.size} px" for run in runs), (f"{len(run.epochs)} epochs" for run in runs)
    days = sorted(str(run.env.get("started", ""))[:10] for run in runs)
    return [
        *facts,
        ("Model", "; ".join(map(_join_unique, ((run.recipe.model.name for run in runs), sizes, epochs)))),
        ("Data", _join_unique(_describe_data(run) for run in runs)),
        ("Hardware", _join_unique(run.hardware for run in runs)),
        ("Code", _join_unique(run.code for run in runs)),
        ("Started", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"),
    ]


def _describe_data(run: RunRecord) -> str:
    images = f"{run.env.get('num_train')} training and {len(run.files)} validation images"
    return f"{images} of {len(run.class_names)} classes ({run.fingerprint[:8]})"


def _evaluations(out: Path, run: RunRecord) -> dict[str, str]:
    """Return split -> link to the page that `validate.py` wrote into the run folder."""
    pages = {split: run.folder / "eval" / split / "index.html" for split in run.evaluations}
    return {split: quote(os.path.relpath(page, out)) for split, page in pages.items()}


def _join_unique(values: Iterable[str]) -> str:
    return some_of(dict.fromkeys(values), 4)


def _card(result: PairResult) -> dict[str, Any]:
    return {"result": result, "kind": result.outcome.replace(" ", "-"), "factor": factor_lines(result.matched)}


def _kinds(item: ChangedImages) -> list[tuple[str, list[ChangedImage]]]:
    return [("Right only with it", item.fixed), ("Wrong only with it", item.broken)]


def _thumbnail(image: ChangedImage) -> dict[str, Any]:
    return {"image": image, "link": data_link(image.jpeg, "image/jpeg") if image.jpeg else ""}
