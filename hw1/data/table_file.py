"""Read tables as people have them: CSV of any usual form, or Parquet. No torch, no numpy."""

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hw1.errors import UserError
from hw1.utils.text import counted, first_line, printable, some_of

DELIMITERS = (",", ";", "\t", "|")
PARQUET_SUFFIXES = (".parquet", ".pq")
NOT_TEXT = ((b"PK\x03\x04", "an Excel or ZIP file; save the table as CSV"), (b"\xd0\xcf\x11\xe0", "an Excel file; save the table as CSV"))
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, eq=False)
class Table:
    """A table of text.

    Attributes:
        path: The file.
        header: Name of each column.
        columns: The cells of each column, all of the same number.
        lines: Line of the file that each row ends on, from 1; of Parquet the number of the row.
        unit: What `lines` counts.
        delimiter: What separates the cells.
    """

    path: Path
    header: list[str]
    columns: list[list[str]]
    lines: list[int]
    unit: Literal["line", "row"] = "line"
    delimiter: str = ","

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return self.columns[self.header.index(name)]

    def where(self, rows: Sequence[int], num: int = 5) -> str:
        """Name rows, given by position, for a message: "line 7", or "lines 7, 9 and 3 more"."""
        return f"{self.unit}{'s' if len(rows) > 1 else ''} {some_of((str(self.lines[row]) for row in rows), num)}"


def read_table(path: Path, key: str) -> Table:
    """Read a CSV file, or a Parquet file by its suffix.

    Cells may be separated by comma, semicolon, tab or bar, whichever the first line has most of, and quoted; lines may end as on any
    system; empty lines and a byte order mark are passed over, and UTF-16 is read if it has one. Bytes that are not UTF-8 are kept as in
    file names.

    Args:
        path: The file.
        key: The key or option that names it, for messages.

    Raises:
        UserError: The file cannot be read, has no rows, or has rows of another length than its first line.
    """
    name = f"{key}: {printable(path)}"
    if not os.path.isfile(path):
        raise UserError(f"{name}: {'not a file' if os.path.exists(path) else 'no such file'}")
    table = _read_parquet(path, name) if path.suffix.lower() in PARQUET_SUFFIXES else _read_csv(path, name)
    if not table.lines:
        raise UserError(f"{name}: no rows below the names of the columns" if table.header else f"{name}: empty")
    return table


def _read_csv(path: Path, name: str) -> Table:
    text = _read_text(path, name)
    first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    starts = [cell[:1] == " " for cell in first.split(delimiter)[1:]]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=bool(starts) and all(starts))
    rows: list[list[str]] = []
    lines: list[int] = []
    problems: list[str] = []
    try:
        header = [cell.strip() for cell in next(filter(None, reader), [])]
        for row in reader:
            if len(row) != len(header):
                if not row:
                    continue
                if any(row[len(header) :]) or len(row) < len(header):
                    problems.append(f"{name}, line {reader.line_num}: {counted(len(row), 'cell')}, but {counted(len(header), 'column')}")
                    continue
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: no readable CSV: {error}") from None
    if problems:
        raise UserError(*limit(problems, name, "lines with more or fewer cells than columns"))
    columns = [list(column) for column in zip(*(row[: len(header)] for row in rows), strict=True)] or [[] for _ in header]
    return Table(path, header, columns, lines, delimiter=delimiter)


def _read_text(path: Path, name: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    for start, what in NOT_TEXT:
        if data.startswith(start):
            raise UserError(f"{name}: {what}")
    if data.startswith(UTF16_STARTS):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise UserError(f"{name}: begins as UTF-16 and is not; save it as UTF-8") from None
    if b"\0" in data:
        raise UserError(f"{name}: not a text file")
    return data.decode("utf-8-sig", errors="surrogateescape")


def _read_parquet(path: Path, name: str) -> Table:
    try:
        import pyarrow.parquet
        import pyarrow.types
    except ImportError:
        raise UserError(f"{name}: Parquet needs the package pyarrow; pip install pyarrow, or save the table as CSV") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            header = [field.name for field in schema if not _is_opaque(field.type)]
            table = file.read(columns=header)
        columns = [[_as_text(value) for value in table.column(column).to_pylist()] for column in header]
        return Table(path, header, columns, list(range(1, table.num_rows + 1)), unit="row")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name}: no readable Parquet file: {first_line(error)}") from None


def _is_opaque(kind: Any) -> bool:
    """Return whether a Parquet column holds something else than text and numbers, such as the bytes of images."""
    import pyarrow.types as types

    return bool(types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _as_text(value: Any) -> str:
    """Return a value as a CSV file would have it: nothing for what is missing."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def limit(problems: Sequence[str], place: str, noun: str, num: int = 20) -> list[str]:
    """Return the first `num` problems, and a line for the others.

    Args:
        problems: All of them, a line each.
        place: What the line begins with.
        noun: What there are more of, in the plural.
        num: At most so many are returned as they are.
    """
    return [*problems[:num], *([f"{place}: {len(problems) - num:,} more {noun}"] if len(problems) > num else [])]
