"""A table, and how it is written: CSV (whole numbers behind the shown ones), Markdown, cells for HTML."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NOTHING = "–"
MINUS = "−"


@dataclass(frozen=True)
class Column:
    """A column of what is shown. `key` is that of the rows; `digits` after the point, None for text.

    `spread`: key of a standard deviation, shown as ±; `upper`: key of the upper end of an interval of which `key` is the lower.
    """

    key: str
    title: str
    digits: int | None = None
    spread: str = ""
    upper: str = ""
    signed: bool = False


class Cell(NamedTuple):
    text: str
    value: float | str | None
    """What the column is sorted by."""
    is_number: bool


@dataclass(frozen=True)
class Table:
    """Rows are dicts with the same keys, in the CSV's order; `columns` choose and format what is shown.

    `notices`: what keeps the rows from being compared. `sources`: the runs that the numbers come from. `note`: how to read it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]
    sources: Sequence[str] = ()
    notices: Sequence[str] = ()
    note: str = ""

    def cells(self) -> list[list[Cell]]:
        return [[_cell(column, row) for column in self.columns] for row in self.rows]


def to_csv(table: Table) -> str:
    """All keys of the rows, numbers unrounded, empty where there is none."""
    buffer = io.StringIO()
    names = list(table.rows[0]) if table.rows else [column.key for column in table.columns]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: json.dumps(value) if isinstance(value, bool) else value for key, value in row.items()} for row in table.rows)
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Heading, notices, the table as GitHub reads it, note and sources."""
    lines = [f"### {table.title}", ""]
    lines += [f"> **Note:** {_escape(notice)}\n" for notice in table.notices]
    lines.append("| " + " | ".join(_escape(column.title) for column in table.columns) + " |")
    lines.append("|" + "|".join("---" if column.digits is None else "---:" for column in table.columns) + "|")
    lines += ["| " + " | ".join(_escape(cell.text) for cell in cells) + " |" for cells in table.cells()]
    if table.note:
        lines += ["", table.note]
    if table.sources:
        lines += ["", f"Runs: {', '.join(f'`{source}`' for source in table.sources)}"]
    return "\n".join(lines) + "\n"


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """With a real minus, no sign for what rounds to 0, and groups of thousands."""
    if not math.isfinite(value):
        return str(value)
    text = f"{abs(value):,.{digits}f}"
    is_zero = not any(digit in text for digit in "123456789")
    sign = "" if is_zero else MINUS if value < 0 else "+" if signed else ""
    return sign + text


def _cell(column: Column, row: dict[str, Any]) -> Cell:
    value = row[column.key]
    if column.digits is None:
        return Cell(NOTHING if value in (None, "") else str(value), value, False)
    if value is None:
        return Cell(NOTHING, None, True)
    text = number(value, column.digits, signed=column.signed)
    smallest = 10.0**-column.digits
    if 0 < value < smallest / 2 and not column.signed:  # a p-value is never 0
        text = f"< {number(smallest, column.digits)}"
    if column.spread and row[column.spread] is not None:
        text += f" ± {number(row[column.spread], column.digits)}"
    if column.upper:
        text += f" to {number(row[column.upper], column.digits, signed=column.signed)}"
    return Cell(text, float(value) if math.isfinite(value) else None, True)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
