"""The tables of a result file, in Markdown."""

from collections.abc import Mapping
from typing import Any

from benchmarks.startup.watch import END

HEADS = {"line": "first line", "step": "first step", "prediction": "first prediction", "page": "page is open", END: "end"}
TITLES = {
    "commands": "Every command on a small run",
    "first_step": "A training, from the command to its first finished step",
    "first_prediction": "One image, from the command to its prediction",
}
MARKS = {"commands": ("line", END), "first_step": ("line", "step"), "first_prediction": ("prediction", END)}


def tables(result: Mapping[str, Any]) -> str:
    """Return the tables: seconds on the clock, and in brackets of processor time."""
    parts = []
    for group, rows in result["results"].items():
        marks = MARKS[group]
        lines = [f"| {TITLES[group]} | {' | '.join(HEADS[mark] for mark in marks)} |", f"|---{'|---' * len(marks)}|"]
        lines += [f"| {name} | {' | '.join(_cell(row.get(mark)) for mark in marks)} |" for name, row in rows.items()]
        parts.append("\n".join(lines))
    settings, machine = result["settings"], result["machine"]
    num = max((len(mark["wall"]) for rows in result["results"].values() for row in rows.values() for mark in row.values()), default=0)
    peers = ", ".join(f"{name} {version}" for name, version in settings["peers"].items() if version)
    caption = (
        f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}. Seconds on the clock, and of "
        f"processor time in brackets: the least of {num} tries, one thread. {settings['model']} at {settings['size']} pixels, batches of "
        f"{settings['batch']}, {settings['images']}{f'; {peers}' if peers else ''}."
    )
    return "\n\n".join([*parts, caption])


def _cell(mark: Mapping[str, Any] | None) -> str:
    return f"{min(mark['wall']):.2f} ({min(mark['processor']):.2f})" if mark else "-"
