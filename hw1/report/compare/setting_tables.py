"""Tables of what differs: keys of the recipes by variant, and what else the runs do not have in common."""

from collections.abc import Callable, Sequence
from typing import Any

from hw1.html.table import Column, Table
from hw1.report.compare.variants import Variant, differing_keys, format_value
from hw1.report.run_record import RunRecord
from hw1.utils.text import some_of

MAX_SHOWN_KEYS = 12
"""Columns on the page; the CSV file has all."""
MAX_NAMED_RUNS = 8


def key_table(variants: Sequence[Variant]) -> Table:
    """Tabulate the keys in which the recipes differ, a row for each variant; no rows where the recipes are the same."""
    keys = differing_keys(variants)
    rows: list[dict[str, Any]] = [
        {"variant": variant.name, **{key: format_value(variant.settings.get(key)) for key in keys}} for variant in variants
    ]
    columns = [Column("variant", "variant"), *(Column(key, key) for key in keys[:MAX_SHOWN_KEYS])]
    more = len(keys) - MAX_SHOWN_KEYS
    note = f"The first {MAX_SHOWN_KEYS} of {len(keys)} keys; the CSV file has all." if more > 0 else ""
    return Table("settings", "Keys that differ", columns, rows if keys else [], (), (), note)


def environment_table(runs: Sequence[RunRecord]) -> Table:
    """Tabulate data, code, versions, processes and hardware that are not the same in all runs: a row for each value."""
    rows = []
    for name, value_of in ASPECTS.items():
        groups: dict[str, list[str]] = {}
        for run in runs:
            groups.setdefault(value_of(run), []).append(run.path)
        if len(groups) > 1:
            rows += [
                {"aspect": name, "value": value, "num_runs": len(paths), "runs": some_of(paths, MAX_NAMED_RUNS)}
                for value, paths in groups.items()
            ]
    columns = (Column("aspect", "what"), Column("value", "value"), Column("num_runs", "runs", 0), Column("runs", "which"))
    return Table("environments", "What else differs", columns, rows)


def _package(name: str) -> Callable[[RunRecord], str]:
    def version(run: RunRecord) -> str:
        packages = run.env.get("packages")
        return str(packages.get(name)) if isinstance(packages, dict) else "unknown"

    return version


def _fact(key: str) -> Callable[[RunRecord], str]:
    return lambda run: str(run.env.get(key, "unknown"))


ASPECTS: dict[str, Callable[[RunRecord], str]] = {
    "data (fingerprint)": lambda run: run.fingerprint[:8],
    "training images": _fact("num_train"),
    "validation images": lambda run: str(len(run.files)),
    "classes": lambda run: str(len(run.class_names)),
    "code": lambda run: run.code,
    "torch": _package("torch"),
    "timm": _package("timm"),
    "Python": _fact("python"),
    "processes": _fact("num_processes"),
    "hardware and precision": lambda run: run.hardware,
}
"""Name of an aspect -> function that returns its value for a run."""
