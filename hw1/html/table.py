"""A table and its formats: CSV with unrounded numbers, Markdown, and cells for HTML."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hw1.utils.text import csv_cell, on_one_line

NOTHING = "–"
MINUS = "−"


@dataclass(frozen=True)
class Column:
    """A displayed column.

    Attributes:
        key: Key of the rows that holds the values.
        title: Heading.
        digits: Decimals of a number; None for text.
        spread: Key of a standard deviation, displayed as ±; empty for none.
        upper: Key of the upper end of an interval whose lower end is `key`; empty for none. An end that is None is open, one that reads
            like the lower end is left out.
        signed: Whether positive numbers have a plus sign.
    """

    key: str
    title: str
    digits: int | None = None
    spread: str = ""
    upper: str = ""
    signed: bool = False


class Cell(NamedTuple):
    """A formatted value, and the value that the column is sorted by."""

    text: str
    value: float | str | None
    is_number: bool


@dataclass(frozen=True)
class Table:
    """Rows with the columns to display.

    Attributes:
        name: Name of the CSV file, without its ending.
        title: Heading.
        columns: Which values of a row are displayed, and how.
        rows: Dicts with the same keys, in the order of the CSV file.
        sources: Runs that the numbers come from.
        notices: Why the rows cannot be compared, one line each.
        note: How to read the table.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]
    sources: Sequence[str] = ()
    notices: Sequence[str] = ()
    note: str = ""

    def cells(self) -> list[list[Cell]]:
        """Format the displayed columns of all rows."""
        return [[_cell(column, row) for column in self.columns] for row in self.rows]


def to_csv(table: Table) -> str:
    """Return all keys of all rows as CSV: numbers unrounded, None as an empty cell, text as by `csv_cell`."""
    buffer = io.StringIO()
    names = list(table.rows[0]) if table.rows else [column.key for column in table.columns]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: json.dumps(value) if isinstance(value, bool) else csv_cell(value) for key, value in row.items()} for row in table.rows
    )
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return heading, notices, table, note and sources as GitHub's Markdown."""
    lines = [f"### {table.title}", ""]
    lines += [f"> **Note:** {escape_markdown(notice)}\n" for notice in table.notices]
    lines.append("| " + " | ".join(escape_markdown(column.title) for column in table.columns) + " |")
    lines.append("|" + "|".join("---" if column.digits is None else "---:" for column in table.columns) + "|")
    lines += ["| " + " | ".join(escape_markdown(cell.text) for cell in cells) + " |" for cells in table.cells()]
    if table.note:
        lines += ["", table.note]
    if table.sources:
        lines += ["", f"Runs: {', '.join(f'`{source}`' for source in table.sources)}"]
    return "\n".join(lines) + "\n"


def format_number(value: float, digits: int, *, signed: bool = False) -> str:
    """Format a number with a typographic minus and grouped thousands; what rounds to 0 has no sign.

    Args:
        value: The number; NaN and infinities are spelt out.
        digits: Decimals.
        signed: Whether positive numbers have a plus sign.
    """
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
    text = _format(column, column.digits, value)
    if column.spread and row[column.spread] is not None:
        text += f" ± {format_number(row[column.spread], column.digits)}"
    if column.upper:
        upper = row[column.upper]
        end = " or more" if upper is None else f" to {_format(column, column.digits, upper)}"
        text += "" if end == f" to {text}" else end
    return Cell(text, float(value) if math.isfinite(value) else None, True)


def _format(column: Column, digits: int, value: float) -> str:
    smallest = 10.0**-digits
    if 0 < value < smallest / 2 and not column.signed:  # a p-value is never 0
        return f"< {format_number(smallest, digits)}"
    return format_number(value, digits, signed=column.signed)


def escape_markdown(text: str) -> str:
    """Return text for a line or a cell of Markdown, in which it begins no HTML, link or code and ends no cell."""
    return re.sub(r"([\\|`\[\]*])", r"\\\1", on_one_line(text)).replace("<", "&lt;")
