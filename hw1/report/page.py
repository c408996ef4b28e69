"""All of the report as one HTML file that needs nothing beside it: no server, no internet, no other file."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hw1 import __version__
from hw1.pairs import NUM_PUBLISHED_IMAGES
from hw1.plainyaml import dump_yaml
from hw1.report.analyse import PairResult
from hw1.report.collect import Collection, RunRecord
from hw1.report.figures import DrawnFigure
from hw1.report.formats import MINUS, Table, to_csv
from hw1.report.match import factor_lines

TITLE = "Ablation report"


def render_page(collection: Collection, results: Sequence[PairResult], tables: Sequence[Table], figures: Sequence[DrawnFigure]) -> str:
    """The page. What it shows is escaped; a content security policy lets nothing run or load but what stands in the file itself."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = (files("hw1.report").joinpath(name).read_text() for name in ("style.css", "script.js"))
    environment.filters |= {"csv_link": _csv_link, "svg_link": _svg_link, "typeset": _typeset}
    by_name = {table.name: table for table in tables}
    return environment.from_string(files("hw1.report").joinpath("template.html").read_text()).render(
        title=TITLE,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'",
        style=Markup(style),
        script=Markup(script),
        version=__version__,
        facts=_facts(collection),
        compared=[_card(result) for result in results if result.matched.runs],
        not_run=[result for result in results if not result.matched.runs],
        num_published=NUM_PUBLISHED_IMAGES,
        published=[result for result in results if result.published],
        figures=figures,
        tables=[table for table in tables if table.name not in ("published", "runs", "absent")],
        published_table=by_name.get("published"),
        run_table=by_name.get("runs"),
        absent_table=by_name.get("absent"),
        notices=by_name["runs"].notices,
        runs=[(run, dump_yaml(run.env)) for run in collection.runs],
        run_ids={run.path: f"run-{number}" for number, run in enumerate(collection.runs)},
    )


def _facts(collection: Collection) -> list[tuple[str, str]]:
    """What was run, in a few lines; several values where the runs differ."""
    runs = collection.runs
    pixels = _several(f"{run.recipe.aug.size} px" for run in runs)
    days = sorted(str(run.env.get("started", ""))[:10] for run in runs)
    return [
        ("Runs", f"{len(runs)} finished of {len({run.variant for run in runs})} variants, in {collection.root}"),
        ("Model", f"{_several(run.recipe.model.name for run in runs)}, {pixels}, {_several(f'{len(run.rows)} epochs' for run in runs)}"),
        ("Data", _several(_data(run) for run in runs)),
        ("Hardware", _several(run.hardware for run in runs)),
        ("Code", _several(run.code for run in runs)),
        ("Started", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"),
    ]


def _data(run: RunRecord) -> str:
    return f"{run.env.get('num_train')} training and {len(run.files)} validation images of {len(run.class_names)} classes ({run.data[:8]})"


def _several(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _card(result: PairResult) -> dict[str, Any]:
    return {"result": result, "kind": result.outcome.replace(" ", "-"), "factor": factor_lines(result.matched)}


def _typeset(text: str) -> str:
    """A sentence that begins with a capital, with a real minus, as in the tables, and an arrow that no line break splits."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.replace(" -> ", " → "))
    return text[:1].upper() + text[1:]


def _hash(content: str) -> str:
    """A style or script as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _csv_link(table: Table) -> str:
    return "data:text/csv;charset=utf-8," + quote(to_csv(table))


def _svg_link(figure: DrawnFigure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg).decode()
