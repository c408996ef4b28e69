"""Figures over seeds: lines are means, bands one standard deviation, each figure of the right runs, nothing cut off."""

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import write_run

from hw1.ablate.variants import COMBINED, REPORT_PAIRS, VARIANTS
from hw1.plots import (
    Difference,
    Figure,
    SummaryTable,
    TableRow,
    plot_curves,
    plot_differences,
    plot_seeds,
    plot_training_curve,
    render_figure,
)
from hw1.plots.ablation import wrap_title
from hw1.plots.style import PUBLISHED, house_style, text_width
from hw1.report.collect import collect
from hw1.report.figure_tables import HEADINGS, Side, training_summary, validation_summary
from hw1.report.figures import NAMES, draw_all
from hw1.report.pair_results import compare_pairs

SEEDS = [
    [{"epoch": e, "train_loss": 3 / e + s, "val_loss": 2 / e + s * s, "val_top1": 0.1 * e + 0.02 * s} for e in (1, 2, 3)] for s in (0, 1, 4)
]


def lines(figure: Figure) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()}


def band(figure: Figure, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end at each epoch."""
    x, y = figure.axes[0].collections[which].get_paths()[0].vertices.T
    return tuple(np.array([end(y[x == epoch]) for epoch in sorted(set(x))]) for end in (np.min, np.max))


def assert_nothing_is_cut(figure: Figure) -> None:
    """Every text and legend lies within the figure, and title, panels, legend and table do not overlap."""
    with house_style():
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)] if text.get_text()]
    blocks = [axes.get_tightbbox(renderer) for axes in figure.axes]
    blocks += [item.get_window_extent(renderer) for item in (*figure.legends, *figure.texts)]
    for box in [text.get_window_extent(renderer) for text in texts] + blocks:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    blocks = [box.padded(-1) for box in blocks]  # two that touch do not overlap
    assert not [(a, b) for n, a in enumerate(blocks) for b in blocks[:n] if a.overlaps(b)]
    cells = [text.get_window_extent(renderer) for text in figure.axes[-1].texts if text.get_text()]
    assert not [(a, b) for n, a in enumerate(cells) for b in cells[:n] if a.overlaps(b)]


def test_a_line_is_the_mean_and_its_band_one_standard_deviation():
    figure = plot_training_curve(SEEDS, "T")
    # seeds add 0, 1, 4 to the training loss and 0, 1, 16 to the validation loss: means 5/3 and 17/3, variances 13/3 and 241/3
    train, val = 3 / np.array([1, 2, 3]) + 5 / 3, 2 / np.array([1, 2, 3]) + 17 / 3
    np.testing.assert_allclose(lines(figure)["train (3 seeds)"], train)
    np.testing.assert_allclose(lines(figure)["validation (3 seeds)"], val)
    np.testing.assert_allclose(band(figure, 0), [train - np.sqrt(13 / 3), train + np.sqrt(13 / 3)])
    np.testing.assert_allclose(band(figure, 1), [np.maximum(val - np.sqrt(241 / 3), 0), val + np.sqrt(241 / 3)])
    assert_nothing_is_cut(figure)


def test_one_seed_has_no_band_and_runs_are_drawn_to_the_end_of_the_shortest():
    figure = plot_seeds({"a": SEEDS[:1], "b": [SEEDS[0], SEEDS[1][:2]]}, "val_top1", "T")
    assert len(figure.axes[0].collections) == 1
    np.testing.assert_allclose(lines(figure)["a (1 seed)"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(lines(figure)["b (2 seeds)"], [0.11, 0.21])


def test_two_variants_differ_in_more_than_colour():
    without, with_ = plot_seeds({"a": SEEDS, "b": SEEDS}, "val_loss", "T").axes[0].get_lines()
    assert without.get_linestyle() != with_.get_linestyle()


def test_one_colour_means_one_thing():
    def colours(figure: Figure) -> list[str]:
        return [line.get_color() for line in figure.axes[0].get_lines()]

    train, validation = colours(plot_training_curve(SEEDS, "T"))
    without, with_ = colours(plot_seeds({"a": SEEDS, "b": SEEDS}, "val_top1", "T"))
    assert colours(plot_seeds({"a": SEEDS}, "val_top1", "T")) == [validation]
    assert len({train, validation, without, with_, PUBLISHED}) == 5
    differences = plot_differences([Difference("one", 1.5, -0.5, 3.5, [1.0], (-2.0, -5.0, 1.0))], "T")
    assert {line.get_color() for line in differences.axes[0].get_lines()} == {with_, PUBLISHED}
    assert colours(plot_curves([{**epoch, "train_acc": 0.5, "lr": 0.1} for epoch in SEEDS[0]]))[:2] == [train, validation]


def long_run(num_epochs: int, add: float = 0.0) -> list[dict]:
    return [{"epoch": e, "train_loss": 9 / e, "val_loss": 8 / e + add, "val_top1": 1 - 0.9 / e - add} for e in range(1, num_epochs + 1)]


def test_the_later_half_of_a_long_training_has_a_panel_of_its_own():
    figure = plot_seeds({"a": [long_run(50)], "b": [long_run(50, 0.02)]}, "val_top1", "T")
    whole, later = figure.axes[:2]
    for axes, first in [(whole, 1), (later, 26)]:
        for line, add in zip(axes.get_lines(), (0.0, 0.02), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(first, 51))
            np.testing.assert_allclose(line.get_ydata(), 1 - 0.9 / np.arange(first, 51) - add)
    heights = [0.02 / np.diff(axes.get_ylim())[0] for axes in (whole, later)]
    assert heights[0] < 0.03, "there the two curves are one"
    assert heights[1] > 0.2
    assert later.get_title(loc="left") == "epochs 26 to 50"
    assert_nothing_is_cut(figure)
    short = plot_seeds({"a": [long_run(8)]}, "val_top1", "T")
    assert len([axes for axes in short.axes if axes.get_lines()]) == 1


def test_a_variant_that_ends_before_the_window_is_in_the_whole_alone():
    figure = plot_seeds({"a": [long_run(50)], "b": [long_run(10)]}, "val_loss", "T")
    assert [len(line.get_xdata()) for axes in figure.axes[:2] for line in axes.get_lines()] == [50, 10, 25, 0]


def test_a_band_ends_where_accuracies_and_losses_do():
    runs = [[{"epoch": 1, "val_top1": a, "val_loss": 0.01 + a}] for a in (0.9, 1.0, 1.0)]
    low, high = band(plot_seeds({"a": runs}, "val_top1", "T"), 0)
    assert (low[0], high[0]) == (pytest.approx(29 / 30 - np.std([0.9, 1, 1], ddof=1)), 1.0)
    runs = [[{"epoch": 1, "val_top1": 0.5, "val_loss": loss}] for loss in (0.0, 0.0, 3.0)]
    assert band(plot_seeds({"a": runs}, "val_loss", "T"), 0)[0][0] == 0.0


def test_the_table_under_a_figure_is_read_as_it_stands():
    table = SummaryTable(
        ("last epoch", "best"), [TableRow("with", ("0.7193 ± 0.0116", "0.7380 ± 0.0102")), TableRow("published with", ("0.9", "–"), True)]
    )
    figure = plot_seeds({"a": SEEDS}, "val_top1", "T", table)
    texts = figure.axes[-1].texts
    assert [text.get_text() for text in texts if text.get_text()] == [
        "last epoch", "best", "with", "0.7193 ± 0.0116", "0.7380 ± 0.0102", "published with", "0.9", "–",
    ]  # fmt: skip
    assert {text.get_text() for text in texts if text.get_color() == PUBLISHED} == {"published with", "0.9", "–"}
    assert_nothing_is_cut(figure)


def test_differences_are_drawn_where_they_are():
    items = [
        Difference("one", 1.5, -0.5, 3.5, [1.0, 2.0], (-2.0, -5.0, 1.0)),
        Difference("single seed", -1.0, None, None, [-1.0], None),
        Difference("only published", None, None, None, [], (5.0, 0.0, 10.0)),
    ]
    figure = plot_differences(items, "T")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "single seed", "only published"]
    assert axes.yaxis_inverted()
    points = {round(float(line.get_xdata()[0]), 6) for line in axes.get_lines() if len(line.get_xdata()) == 1}
    assert {1.5, -1.0, -2.0, 5.0} <= points
    spans = [tuple(path.vertices[:, 0]) for group in axes.collections for path in group.get_paths()]
    assert {(-0.5, 3.5), (-1.0, -1.0), (-5.0, 1.0), (0.0, 10.0)} <= set(spans)
    assert_nothing_is_cut(figure)


def test_nothing_to_draw_is_an_error():
    for call in (
        lambda: plot_training_curve([], "T"),
        lambda: plot_seeds({"a": [[]]}, "val_loss", "T"),
        lambda: plot_seeds({}, "val_loss", "T"),
        lambda: plot_differences([], "T"),
    ):
        with pytest.raises(ValueError, match=r"no epochs|one or two|no differences"):
            call()


def test_the_same_data_give_the_same_svg_without_anything_from_elsewhere():
    first, second = (render_figure(plot_seeds({"a": SEEDS}, "val_loss", "T"), "svg") for _ in range(2))
    assert first == second
    assert b"<text" not in first, "text is outlines: a reader may lack the font"
    links = re.findall(rb'(?:href|src)="([^"]*)"', first)
    assert all(link.startswith(b"#") for link in links)
    assert b"<dc:date>" not in first


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict:
    root: Path = tmp_path_factory.mktemp("runs")
    for variant in ("plain", "mixup", "mixup_cbam_dropout"):
        for seed in (0, 1):
            write_run(root, variant, seed, env={"device": "GPU X"} if variant == "mixup" else None)
    collection = collect(root)
    return {figure.name: figure for figure in draw_all(collection, compare_pairs(collection))}


def test_each_figure_is_of_its_runs_and_a_missing_one_says_why(drawn):
    assert tuple(drawn) == NAMES
    expected = {}
    for pair in REPORT_PAIRS:  # the report's order of figures: curves without, with, then accuracy and loss of both
        without, with_, accuracy, loss = pair.figures
        expected |= {without: [pair.without], with_: [pair.with_], accuracy: [pair.without, pair.with_], loss: [pair.without, pair.with_]}
    curve, accuracy = COMBINED.figures
    expected |= {curve: [COMBINED.variant], accuracy: [COMBINED.variant]}
    assert sorted(expected) == list(range(1, 19))
    there = {"plain", "mixup", "mixup_cbam_dropout"}
    for num, variants in expected.items():
        figure = drawn[f"fig{num:02}"]
        assert figure.title.startswith(f"Figure {num}. ")
        if set(variants) <= there:
            assert figure.sources == [f"{variant}/seed{seed}" for variant in variants for seed in (0, 1)]
            assert figure.png.startswith(b"\x89PNG")
            assert b"<svg" in figure.svg
            assert figure.missing == ""
        else:
            assert (figure.png, figure.svg, figure.sources) == (b"", b"", ())
            assert figure.missing == f"no finished run of {' or '.join(v for v in variants if v not in there)}"
    assert "accuracy" in drawn["fig03"].title
    assert "loss" in drawn["fig04"].title


def test_mixed_environments_are_named_at_the_figure(drawn):
    assert drawn["fig01"].notices == []
    assert any("different hardware" in line for line in drawn["fig03"].notices)


def test_the_longest_titles_labels_and_tables_fit(drawn_wide):
    for figure in drawn_wide:
        assert_nothing_is_cut(figure)


@pytest.fixture
def drawn_wide() -> list[Figure]:
    """A figure of each kind with the longest words there are, of 3 and of 50 epochs."""
    longest = sorted((variant.title for variant in VARIANTS.values()), key=len)[-2:]
    rows = [
        TableRow("validation loss", ("1.7193 ± 0.0116", "1.7380 ± 0.0102", "1234.5 ± 123.4")),
        TableRow("published validation", ("0.7484", "–", "140"), True),
    ]
    table = SummaryTable(HEADINGS, rows)
    title = "Figure 17. Validation accuracy with random Mixup and with Mixup on every batch"
    figures = []
    for seeds in (SEEDS, [long_run(50), long_run(50, 0.01)]):
        figures.append(plot_seeds({f"without: {name}": seeds for name in longest}, "val_top1", title, table))
        figures.append(plot_training_curve(seeds, title, table))
    return figures


def test_a_title_is_whole_and_as_wide_as_it_may_be():
    title = "Figure 15. Training curve: Mixup on every batch, CBAM, dropout after layer3 and more words than a line has room for"
    lines = wrap_title(title, 4.0)
    assert " ".join(lines) == title
    assert len(lines) > 1
    assert all(text_width(line, 11.0, weight="bold") <= 4.0 for line in lines)
    assert text_width(f"{lines[0]} {lines[1].split()[0]}", 11.0, weight="bold") > 4.0
    assert wrap_title("Unbreakable" * 20, 1.0) == ["Unbreakable" * 20]


@pytest.mark.parametrize("name", ["fig01", "fig03", "fig04"])
def test_a_figure_has_last_best_and_minutes_beside_the_published(drawn_tables, name):
    runs, tables = drawn_tables
    rows = {row.name: row.values for row in tables[name].rows}
    key = "val_top1" if name == "fig03" else "val_loss"
    sides = {"validation loss": "plain"} if name == "fig01" else {"without": "plain", "with": "mixup"}
    for label, variant in sides.items():
        epochs = [[json.loads(line)[key] for line in (runs / variant / f"seed{s}/metrics.jsonl").read_text().splitlines()] for s in (0, 1)]
        best = [max(values) if key == "val_top1" else min(values) for values in epochs]
        last = [values[-1] for values in epochs]
        expected = [f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}" for values in (last, best)]
        assert rows[label] == (*expected, "2.0 ± 0.0")
    if name == "fig03":
        assert (rows["published without"], rows["published with"]) == (("0.8781", "–", "140"), ("0.8740", "–", "142"))
    elif name == "fig04":
        assert (rows["published without"][0], rows["published with"][0]) == ("0.7484", "0.5926")
    else:
        assert rows["published validation"] == ("0.7484", "–", "140")


@pytest.fixture(scope="module")
def drawn_tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, SummaryTable]]:
    root: Path = tmp_path_factory.mktemp("runs")
    for variant in ("plain", "mixup"):
        for seed in (0, 1):
            write_run(root, variant, seed)
    collection = collect(root)
    [pair] = [pair for pair in REPORT_PAIRS if pair.name == "mixup"]
    without = Side("without", "plain", collection.runs_of("plain"), pair.published_without)
    with_ = Side("with", "mixup", collection.runs_of("mixup"), pair.published_with)
    tables = {f"fig{n:02}": validation_summary([without, with_], key) for n, key in [(3, "val_top1"), (4, "val_loss")]}
    return root, tables | {"fig01": training_summary(without)}


def test_captions_say_which_figures_are_of_the_same_runs(drawn):
    assert "Figures 2 and 5 are of the same runs" in drawn["fig05"].caption
    assert "Figures 6 and 9 are of the same runs; the report published 2 runs" in drawn["fig06"].caption
    for name in ("fig10", "fig13", "fig15"):
        assert "Figures 10, 13 and 15 are of the same runs" in drawn[name].caption
    assert "same runs" not in drawn["fig01"].caption
    for name in ("fig13", "fig14"):
        assert "no run of its own" in drawn[name].caption
    assert "0.8781" not in drawn["fig14"].caption
    assert "49 epochs" in drawn["fig03"].caption
    assert "Model: resnext101_32x8d_cbam." in drawn["fig03"].caption
