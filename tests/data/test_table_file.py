"""Tables in the forms that people's programs write, against pandas' and pyarrow's own files."""

import csv
import io
import random
import sys
from pathlib import Path

import pandas
import pytest

from hw1.data.table_file import limit, read_table
from hw1.errors import UserError

CELLS = ["a.jpg", "", "two words", 'with "quotes"', "semi;colon", "com,ma", "line\nbreak", "é", "猫", "1", "tab\there", "|"]


def problems(path: Path, key: str = "data.labels") -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        read_table(path, key)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_pandas_writes_is_read_back(tmp_path, delimiter, line_end, encoding):
    rng = random.Random(3)
    cells = [cell for cell in CELLS if line_end == "\n" or "\n" not in cell]
    table = pandas.DataFrame({name: [rng.choice(cells) for _ in range(50)] for name in ("image", "label", "my fold")})
    path = tmp_path / "labels.csv"
    table.to_csv(path, sep=delimiter, lineterminator=line_end, encoding=encoding, index=False)
    read = read_table(path, "data.labels")
    assert read.delimiter == delimiter
    assert read.header == list(table.columns)
    for name in table.columns:
        assert read.column(name) == table[name].tolist()


def test_rows_are_named_by_the_lines_of_the_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('file,label\na,1\n\n"b",2\n"c\nd",3\ne,4\n')
    table = read_table(path, "data.labels")
    lines = path.read_text().split("\n")
    for row in (0, 1, 3):
        assert table.column("file")[row] in lines[table.lines[row] - 1]
    assert (table.where([0]), table.where([0, 1, 3]), table.where([0, 1, 3], 2)) == ("line 2", "lines 2, 4, 7", "lines 2, 4 and 1 more")


def test_spaces_after_every_comma_are_no_part_of_the_cells(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file, label\na.jpg, cat\nb.jpg, dog\n")
    assert read_table(path, "k").columns == [["a.jpg", "b.jpg"], ["cat", "dog"]]
    path.write_text("file,label\na.jpg, cat\n")
    assert read_table(path, "k").columns[1] == [" cat"], "a stray space is the reader's to report"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"file,label\n", "no rows below the names of the columns"),
        (b"file,label\na.jpg\n", ", line 2: 1 cell, but 2 columns"),
        (b"file,label\na.jpg,cat,dog\n", ", line 2: 3 cells, but 2 columns"),
        (b'file,label\n"a.jpg"x,cat\n', ", line 2: no readable CSV: ',' expected after '\"'"),
        (b'file,label\na,b\n"a.jpg,cat\n', ", line 3: no readable CSV: unexpected end of data"),
        (b"PK\x03\x04....", "an Excel or ZIP file; save the table as CSV"),
        (b"file,label\na\0,b", "not a text file"),
        (b"\xff\xfea", "begins as UTF-16 and is not; save it as UTF-8"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    [problem] = problems(path)
    assert problem == f"data.labels: {path}{message if message.startswith(',') else f': {message}'}"


def test_missing_files_and_folders_are_said(tmp_path):
    assert problems(tmp_path / "no.csv") == (f"data.labels: {tmp_path}/no.csv: no such file",)
    assert problems(tmp_path) == (f"data.labels: {tmp_path}: not a file",)


def test_lines_before_the_names_of_the_columns_may_be_empty(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\n\r\nfile;label\na;1\n")
    table = read_table(path, "k")
    assert (table.header, table.columns, table.lines) == (["file", "label"], [["a"], ["1"]], [4])


def test_trailing_separators_are_no_cells(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,label\na.jpg,cat,\nb.jpg,dog,,\n")
    assert read_table(path, "k").columns == [["a.jpg", "b.jpg"], ["cat", "dog"]]


def test_bytes_that_are_no_utf8_are_those_of_file_names(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"file,label\n\xe9.jpg,1\n")
    (tmp_path / "\udce9.jpg").touch()
    [name] = read_table(path, "k").column("file")
    assert (tmp_path / name).exists()


def test_parquet_gives_the_cells_of_the_csv(tmp_path):
    pytest.importorskip("pyarrow")
    table = pandas.DataFrame({"image": ["a", "b", "c"], "bytes": [b"\x89PNG"] * 3, "label": [1.0, None, 3.0], "fold": [0, 1, 2]})
    table.to_parquet(tmp_path / "labels.parquet")
    table.drop(columns="bytes").to_csv(tmp_path / "labels.csv", index=False)
    parquet, text = (read_table(tmp_path / f"labels.{suffix}", "data.labels") for suffix in ("parquet", "csv"))
    assert (parquet.header, parquet.columns) == (text.header, text.columns)
    assert (parquet.where([2]), text.where([2])) == ("row 3", "line 4")
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and no more")
    [problem] = problems(tmp_path / "labels.parquet")
    assert problem.startswith(f"data.labels: {tmp_path}/labels.parquet: no readable Parquet file: ")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "labels.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    [problem] = problems(tmp_path / "labels.parquet")
    assert problem.endswith("Parquet needs the package pyarrow; pip install pyarrow, or save the table as CSV")


def test_long_lists_of_problems_end_in_a_number():
    assert limit(["a", "b"], "x", "problems", 2) == ["a", "b"]
    assert limit(list("abcd"), "x", "problems", 2) == ["a", "b", "x: 2 more problems"]


def test_the_lines_of_a_large_table_are_those_of_the_csv_module(tmp_path):
    text = "".join(f"{number},{'x' * (number % 7)}\n" for number in range(3000))
    path = tmp_path / "labels.csv"
    path.write_text(f"file,label\n{text}")
    table = read_table(path, "k")
    assert list(zip(*table.columns, strict=True)) == list(map(tuple, csv.reader(io.StringIO(text))))
    assert table.lines == list(range(2, 3002))
