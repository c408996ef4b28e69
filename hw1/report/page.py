"""Render the report as one self-contained HTML file: no server, no internet, no other file."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hw1.ablate.variants import NUM_PUBLISHED_IMAGES
from hw1.config.strict_yaml import dump_yaml
from hw1.html.page import render_page
from hw1.html.table import Table
from hw1.report.figures import DrawnFigure
from hw1.report.pair_results import PairResult
from hw1.report.pairing import factor_lines
from hw1.report.run_record import Collection, RunRecord

TITLE = "Ablation report"
SECTIONS = {"verdicts": "Verdicts", "figures": "Figures", "tables": "Tables", "published": "Published", "runs": "Runs"}


def render_report(
    out: Path, collection: Collection, results: Sequence[PairResult], tables: Sequence[Table], figures: Sequence[DrawnFigure]
) -> str:
    """Render the page.

    Args:
        out: The folder of the page; links to evaluations are relative to it.
        collection: All runs.
        results: The result of every pair.
        tables: All tables.
        figures: All figures.
    """
    by_name = {table.name: table for table in tables}
    values = {
        "title": TITLE,
        "sections": SECTIONS.items(),
        "facts": _facts(collection),
        "compared": [_card(result) for result in results if result.matched.runs],
        "not_run": [result for result in results if not result.matched.runs],
        "num_published": NUM_PUBLISHED_IMAGES,
        "published": [result for result in results if result.published],
        "figures": figures,
        "tables": [table for table in tables if table.name not in ("published", "runs", "absent")],
        "published_table": by_name.get("published"),
        "run_table": by_name.get("runs"),
        "absent_table": by_name.get("absent"),
        "notices": by_name["runs"].notices,
        "runs": [(run, dump_yaml(run.env), _evaluations(out, collection.root, run)) for run in collection.runs],
        "run_ids": {run.path: f"run-{number}" for number, run in enumerate(collection.runs)},
    }
    return render_page("hw1.report", values)


def _facts(collection: Collection) -> list[tuple[str, str]]:
    """Summarize what was run; several values where the runs differ."""
    runs = collection.runs
    sizes = _join_unique(f"{run.recipe.aug.size} px" for run in runs)
    days = sorted(str(run.env.get("started", ""))[:10] for run in runs)
    return [
        ("Runs", f"{len(runs)} finished of {len({run.variant for run in runs})} variants, in {collection.root}"),
        (
            "Model",
            f"{_join_unique(run.recipe.model.name for run in runs)}, {sizes}, {_join_unique(f'{len(run.epochs)} epochs' for run in runs)}",
        ),
        ("Data", _join_unique(_describe_data(run) for run in runs)),
        ("Hardware", _join_unique(run.hardware for run in runs)),
        ("Code", _join_unique(run.code for run in runs)),
        ("Started", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"),
    ]


def _describe_data(run: RunRecord) -> str:
    images = f"{run.env.get('num_train')} training and {len(run.files)} validation images"
    return f"{images} of {len(run.class_names)} classes ({run.fingerprint[:8]})"


def _evaluations(out: Path, root: Path, run: RunRecord) -> dict[str, str]:
    """Return split -> link to the page that `validate.py` wrote into the run folder."""
    pages = {split: root / run.path / "eval" / split / "index.html" for split in run.evaluations}
    return {split: quote(os.path.relpath(page, out)) for split, page in pages.items()}


def _join_unique(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _card(result: PairResult) -> dict[str, Any]:
    return {"result": result, "kind": result.outcome.replace(" ", "-"), "factor": factor_lines(result.matched)}
