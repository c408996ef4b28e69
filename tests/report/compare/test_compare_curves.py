"""Values that the page draws, and the figures beside it."""

import io
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import write_run
from PIL import Image

from hw1.plots.variant_curves import Overlay, plot_overlay
from hw1.report.collect import collect
from hw1.report.compare import curves
from hw1.report.compare.curves import PANELS, curve_data, draw_curves, first_shown
from hw1.report.compare.variants import Variant, group_runs

POSITION = {panel.name: position for position, panel in enumerate(PANELS)}


@pytest.fixture
def variants(tmp_path: Path) -> list[Variant]:
    for seed in (0, 1):
        write_run(tmp_path, "mine", seed, epochs=4)
    write_run(tmp_path, "mine", 2, epochs=4, finished=False)
    write_run(tmp_path, "other", 0, 0.8, epochs=6)
    return group_runs(collect(tmp_path))


def rows(tmp_path: Path, run: str) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]


def test_the_page_draws_the_runs_their_mean_and_what_is_unfinished(tmp_path, variants):
    mine, other = json.loads(curve_data(variants, None).json)["variants"]
    runs = [rows(tmp_path, f"mine/seed{seed}") for seed in (0, 1)]
    for key in ("val_loss", "val_top1", "train_loss", "lr", "images_per_second"):
        assert mine["mean"]["values"][POSITION[key]] == pytest.approx(
            [statistics.mean(run[e][key] for run in runs) for e in range(4)], rel=1e-4
        )
        assert mine["runs"][1]["values"][POSITION[key]] == pytest.approx([row[key] for row in runs[1]], rel=1e-4)
    gap = [row["val_loss"] - row["train_loss"] for row in runs[0]]
    assert mine["runs"][0]["values"][POSITION["gap"]] == pytest.approx(gap, rel=1e-4)
    assert mine["runs"][0]["values"][POSITION["data_wait"]] == [None] * 4, "these runs do not know it"
    (unfinished,) = mine["unfinished"]
    assert (unfinished["path"], unfinished["epochs"]) == ("mine/seed2", [1, 2, 3])
    assert (mine["seeds"], other["seeds"], other["runs"]) == (2, 1, [])
    assert other["mean"]["epochs"] == [1, 2, 3, 4, 5, 6]


def test_what_is_not_finite_is_a_gap(tmp_path):
    path = write_run(tmp_path, "mine", 0)
    lines = rows(tmp_path, "mine/seed0")
    lines[1]["train_loss"] = float("nan")
    lines[2]["train_loss"] = float("inf")
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    variants = group_runs(collect(tmp_path))
    (mine,) = json.loads(curve_data(variants, None).json)["variants"]
    assert [value is None for value in mine["mean"]["values"][POSITION["train_loss"]]] == [False, True, True, False]
    assert draw_curves(variants, None)["curves_train_loss.png"].startswith(b"\x89PNG")


def test_many_lines_become_fewer_and_the_page_says_so(variants, monkeypatch):
    for name, value in (("MAX_SEED_LINES", 3), ("MAX_POINTS", 5), ("MAX_SHOWN", 1)):
        monkeypatch.setattr(curves, name, value)
    data = curve_data(variants, None)
    mine, other = json.loads(data.json)["variants"]
    assert mine["runs"] == []
    assert other["mean"]["epochs"] == [1, 4, 6]
    assert (mine["shown"], other["shown"]) == (False, True)
    assert [note.partition(" ")[0] for note in data.notes] == ["At", "4", "Only"]
    assert [variant.name for variant in first_shown(variants, variants[0])] == ["mine"], "the baseline is always there"


def test_figures_for_papers_have_the_mean_thick_and_the_seeds_thin(variants):
    files = draw_curves(variants, None)
    assert {name.removeprefix("curves_") for name in files} == {
        f"{panel.name}.{kind}" for panel in PANELS if panel.name != "data_wait" for kind in ("png", "svg")
    }
    with Image.open(io.BytesIO(files["curves_val_loss.png"])) as image:
        assert image.width > 800
    lines = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0])]
    axes = plot_overlay([Overlay("a_b $x$", lines, [np.array([5.0])])], "T", "unit").axes[0]
    found = {round(line.get_linewidth(), 1): list(line.get_ydata()) for line in axes.get_lines()}
    assert found == {0.7: [3.0, 4.0], 1.4: [5.0], 2.0: [2.0, 3.0]}
    assert "a_b \\$x\\$ (2 seeds, 1 unfinished)" in [line.get_label() for line in axes.get_lines()]


def test_a_long_title_and_long_names_are_whole():
    overlays = [Overlay(f"{'very_' * 20}long{i}", [np.arange(5.0)], []) for i in range(12)]
    figure = plot_overlay(overlays, "Gap: validation minus training loss (12 of 300 variants: the highest top-1)", "nats")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    for box in (figure._suptitle.get_window_extent(renderer), figure.legends[0].get_window_extent(renderer)):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.y1
