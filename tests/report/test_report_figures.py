"""Figures over seeds: lines are means, bands one standard deviation, each figure of the right runs, nothing cut off."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import write_run

from hw1.ablate.variants import COMBINED, REPORT_PAIRS, VARIANTS
from hw1.plots import Difference, Figure, plot_differences, plot_seeds, plot_training_curve, render_figure
from hw1.plots.style import house_style
from hw1.report.collect import collect
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
    with house_style():
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    legend, title = figure.legends[0].get_window_extent(renderer), figure._suptitle.get_window_extent(renderer)
    for box in (legend, title, figure.axes[0].get_tightbbox(renderer)):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    assert not figure.axes[0].get_tightbbox(renderer).overlaps(legend)
    assert not figure.axes[0].get_tightbbox(renderer).overlaps(title)


def test_a_line_is_the_mean_and_its_band_one_standard_deviation():
    figure = plot_training_curve(SEEDS, "T")
    # seeds add 0, 1, 4 to the training loss and 0, 1, 16 to the validation loss: means 5/3 and 17/3, variances 13/3 and 241/3
    train, val = 3 / np.array([1, 2, 3]) + 5 / 3, 2 / np.array([1, 2, 3]) + 17 / 3
    np.testing.assert_allclose(lines(figure)["train (3 seeds)"], train)
    np.testing.assert_allclose(lines(figure)["validation (3 seeds)"], val)
    np.testing.assert_allclose(band(figure, 0), [train - np.sqrt(13 / 3), train + np.sqrt(13 / 3)])
    np.testing.assert_allclose(band(figure, 1), [val - np.sqrt(241 / 3), val + np.sqrt(241 / 3)])
    assert_nothing_is_cut(figure)


def test_one_seed_has_no_band_and_runs_are_drawn_to_the_end_of_the_shortest():
    figure = plot_seeds({"a": SEEDS[:1], "b": [SEEDS[0], SEEDS[1][:2]]}, "val_top1", "T")
    assert len(figure.axes[0].collections) == 1
    np.testing.assert_allclose(lines(figure)["a (1 seed)"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(lines(figure)["b (2 seeds)"], [0.11, 0.21])


def test_two_variants_differ_in_more_than_colour_and_the_second_looks_the_same_alone():
    both = plot_seeds({"a": SEEDS, "b": SEEDS}, "val_loss", "T").axes[0].get_lines()
    alone = plot_seeds({"b": SEEDS}, "val_loss", "T").axes[0].get_lines()
    assert both[0].get_linestyle() != both[1].get_linestyle()
    assert (alone[0].get_color(), alone[0].get_linestyle()) == (both[1].get_color(), both[1].get_linestyle())


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


def test_the_longest_titles_and_labels_fit():
    longest = sorted((variant.title for variant in VARIANTS.values()), key=len)[-2:]
    assert_nothing_is_cut(plot_seeds(dict.fromkeys(longest, SEEDS), "val_top1", "Figure 17. Random Mixup instead of Mixup on every\nbatch"))
