"""Names that are not UTF-8, as old archives hold them: files keep their bytes, and what can only show letters shows a question mark."""

import io
import sys

import numpy as np
import pytest

from hw1.errors import run_command
from hw1.evaluation.submission import _csv
from hw1.html.page import _csv_link
from hw1.html.table import Column, Table
from hw1.plots import plot_confusion, render_figure
from hw1.plots.annotate import draw_label

BYTES = b"caf\xe9"
NAME = BYTES.decode(errors="surrogateescape")


def test_predictions_keep_the_bytes() -> None:
    assert _csv(["image_name", "pred_label"], [[NAME, "3"]]) == b"image_name,pred_label\n" + BYTES + b",3\n"


def test_a_table_in_a_page_keeps_them_in_the_file_it_offers() -> None:
    table = Table("t", "T", [Column("file", "File")], [{"file": NAME}])
    assert _csv_link(table).endswith("file%0Acaf%E9%0A")


def test_pages_show_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    from hw1.html import page

    class Folder:
        def joinpath(self, name: str) -> "Folder":
            return self

        def read_text(self) -> str:
            return "<p>{{ name }}{{ bold }}</p>"

    monkeypatch.setattr(page, "files", lambda package: Folder())
    assert page.render_page("any", {"name": f"<{NAME}>", "bold": page.Markup("<b>ü</b>")}) == "<p>&lt;caf?&gt;<b>ü</b></p>"


def test_images_show_a_question_mark() -> None:
    figure = plot_confusion(np.eye(2, dtype=np.int64), [NAME, "plain"], np.arange(2))
    assert render_figure(figure, "png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["caf?", "plain"]
    image = np.zeros((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(draw_label(image, [NAME]), draw_label(image, ["caf?"]))


def test_commands_print_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8"))
    assert run_command(lambda argv: print(argv[0]), [NAME]) == 0
    sys.stdout.flush()
    assert printed.getvalue() == BYTES + b"\n"
