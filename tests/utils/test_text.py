"""Names that would command a spreadsheet, a terminal or a page are shown and do nothing."""

import csv
import io
import re

import pytest

from hw1.errors import harmless
from hw1.html.table import Column, Table, escape_markdown, to_csv
from hw1.utils.text import csv_cell, format_seconds, on_one_line, showable

FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3+cmd|x", "@SUM(A1)", "-", "+", "=", "＝1+1", "－cat", "'=already", "''@x"]
ORDINARY = ["cat", "a=b", "", "'tis", "12", "-1.5", "+3", "1e-3", "日本", "é -x", "\udc80", "a, b", 'say "x"', 3, -2.5, None]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text_to_a_spreadsheet_and_can_be_read_back(text):
    cell = csv_cell(text)
    assert cell == f"'{text}"
    assert cell[0] not in "=+-@＝＋－＠\t\r"
    assert re.sub(r"^'(?='*[=+\-@＝＋－＠])", "", cell) == text  # as the docstring says


@pytest.mark.parametrize("value", ORDINARY)
def test_ordinary_cells_and_numbers_stay(value):
    assert csv_cell(value) is value or csv_cell(value) == value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("\t=1", "\\x09=1"),
        ("\r=1", "\\x0d=1"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\x9b1m", "\\x9b1m"),
        ("gpj\u202ecod.exe", "gpj\\u202ecod.exe"),
        ("a\nb", "a\\x0ab"),
        ("a\u2029b", "a\\u2029b"),
    ],
)
def test_control_characters_are_spelt_out_in_a_csv_and_gone_elsewhere(text, cell):
    assert csv_cell(text) == cell
    for shown in (on_one_line(text), escape_markdown(text)):
        assert shown.isprintable()
        assert len(shown.splitlines()) == 1
    assert not set(showable(text)) & set("\x1b\x9b\r\u202e")
    assert not set(harmless(text)) & set("\x1b\x9b\r")


def test_a_table_keeps_its_numbers_and_its_rows():
    rows = [{"class": "=1+1", "n": -3, "share": -0.25}, {"class": "a\x1bb", "n": 2, "share": 1e-9}]
    text = to_csv(Table("t", "T", (Column("class", "class"),), rows))
    found = list(csv.DictReader(io.StringIO(text)))
    assert [(row["class"], int(row["n"]), float(row["share"])) for row in found] == [("'=1+1", -3, -0.25), ("a\\x1bb", 2, 1e-9)]


@pytest.mark.parametrize("text", ["<script>x</script>", "[a](javascript:b)", "a|b", "`x`", "**b**", "a\\|b"])
def test_markdown_shows_what_a_name_says(text):
    shown = escape_markdown(text)
    assert not re.search(r"(?<!\\)[|`\[*]|<", shown)
    assert re.sub(r"\\([\\|`\[\]*])", r"\1", shown).replace("&lt;", "<") == text


def test_lines_keep_their_breaks_and_their_letters():
    assert harmless("né\t日本\n\x1b[2Jx") == "né\t日本\n\\x1b[2Jx"
    assert showable("a\n\tb\x1b\udc80") == "a\n\tb??"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3569, "59 min"),
        (3580, "1 h 00 min"),
        (8406, "2 h 20 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_seconds_in_the_unit_that_suits(seconds, text):
    assert format_seconds(seconds) == text
