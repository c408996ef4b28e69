"""Figures: what is drawn is the data, nothing overlaps, and the same data gives the same bytes everywhere."""

import itertools
import json
import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from helpers.paths import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hw1.errors import RunError
from hw1.evaluation.calibration import equal_width
from hw1.plots import plot_confusion, plot_curves, plot_reliability, plot_samples, save_figure
from hw1.plots.curves import best_epoch
from hw1.plots.style import house_style


def rows(num: int) -> list[dict]:
    rng = np.random.default_rng(0)
    share = np.arange(1, num + 1) / num
    return [
        {
            "epoch": i + 1,
            "train_loss": 4 * math.exp(-3 * t) + 1 + rng.normal() * 0.05,
            "train_acc": 0.7 * t,
            "val_loss": 3 * math.exp(-3 * t) + 0.6,
            "val_top1": 0.9 * (1 - math.exp(-5 * t)) + rng.normal() * 0.005,
            "val_top5": 0.97,
            "lr": 1e-4 * 0.1 ** min(int(t * 3), 2),
            "images_per_second": 121.0,
            "seconds": 171.0,
        }
        for i, t in enumerate(share)
    ]


def lines(figure: Figure, panel: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in figure.axes[panel].get_lines()}


def assert_no_overlap(figure: Figure) -> None:
    with house_style():
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.has_data() or axes.axison]
    for box in panels:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for a, b in itertools.combinations(panels, 2):
        assert not a.overlaps(b)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_visible() and axes.axison]
            labels = [tick.label1.get_window_extent(renderer) for tick in shown]
            for a, b in itertools.combinations(labels, 2):
                assert not a.overlaps(b)


@pytest.mark.parametrize("num", [1, 2, 500])
def test_curves_draw_the_rows(num):
    data = rows(num)
    figure = plot_curves(data)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Accuracy", "Learning rate"]
    for panel, label, key in [
        (0, "train", "train_loss"),
        (0, "validation", "val_loss"),
        (1, "train", "train_acc"),
        (1, "validation", "val_top1"),
        (2, "learning rate", "lr"),
    ]:
        x, y = lines(figure, panel)[label]
        np.testing.assert_array_equal(x, [row["epoch"] for row in data])
        np.testing.assert_array_equal(y, [row[key] for row in data])
    assert (figure.axes[2].get_yscale(), figure.axes[2].get_ylim()[0]) == ("linear", 0)
    assert all(axes.get_xlabel() == "epoch" and axes.get_ylabel() for axes in figure.axes)
    assert_no_overlap(figure)
    for axes in figure.axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for line in axes.get_lines():
            assert left < min(line.get_xdata()) <= max(line.get_xdata()) < right
            assert bottom < min(line.get_ydata()) <= max(line.get_ydata()) < top


def test_best_epoch_is_marked():
    data = rows(10)
    for row in data:
        row["val_top1"] = 0.5
    data[3].update(val_top1=0.8, val_loss=0.7)
    data[6].update(val_top1=0.8, val_loss=0.6)
    data[8].update(val_top1=0.8, val_loss=0.6)
    assert best_epoch(data) == 6
    figure = plot_curves(data)
    mark = next((x, y) for label, (x, y) in lines(figure, 1).items() if label.startswith("best"))
    assert (list(mark[0]), list(mark[1])) == ([7], [0.8])
    assert "0.8000 at epoch 7" in " ".join(text.get_text() for text in figure.axes[1].get_legend().get_texts())


@pytest.mark.parametrize(("best_by", "panel", "best"), [("loss", 0, 3), ("macro_f1", 1, 2), ("top1", 1, 4)])
def test_the_best_epoch_is_marked_by_what_the_recipe_compares(best_by, panel, best):
    data = rows(5)
    for row, loss, f1, top1 in zip(data, (3, 2, 1, 2, 3), (0.3, 0.9, 0.2, 0.4, 0.1), (0.1, 0.2, 0.3, 0.9, 0.5), strict=True):
        row.update(val_loss=loss, val_macro_f1=f1, val_top1=top1)
    figure = plot_curves(data, best_by=best_by)
    x, y = next(line for label, line in lines(figure, panel).items() if label.startswith("best"))
    assert (list(x), list(y)) == ([best], [data[best - 1][f"val_{best_by}"]])
    assert ("validation macro f1" in lines(figure, 1)) == (best_by == "macro_f1")
    assert_no_overlap(figure)


def test_every_steps_rate_mixed_images_and_an_early_stop_are_shown():
    steps, rates = np.arange(1, 41) / 8, np.linspace(0, 1e-3, 40)
    figure = plot_curves(rows(5), rates=(steps, rates), mixes=True, stopped_early=True)
    np.testing.assert_array_equal(lines(figure, 2)["learning rate"], (steps, rates))
    assert "train (mixed images: higher)" in lines(figure, 0)
    assert "Stopped early after epoch 5" in figure.get_suptitle()
    assert_no_overlap(figure)


def test_values_that_are_no_numbers_leave_gaps(recwarn):
    data = rows(6)
    data[1].update(train_loss=None, val_loss=math.inf, val_top1=math.nan, lr=0.0)
    figure = plot_curves(data)
    assert_no_overlap(figure)
    assert np.isnan(lines(figure, 0)["train"][1]).tolist() == [False, True, False, False, False, False]
    assert np.isnan(lines(figure, 0)["validation"][1]).tolist() == [False, True, False, False, False, False]
    for row in data:
        row.update(train_loss=math.nan, val_loss=math.nan, val_top1=None, lr=0.0)
    assert best_epoch(data) is None
    assert_no_overlap(plot_curves(data))
    assert not [str(w.message) for w in recwarn]


def test_no_epochs_is_an_error():
    with pytest.raises(ValueError, match="no epochs"):
        plot_curves([])


def test_lines_can_be_distinguished_without_colour():
    """In grey, and to a reader who sees no difference between red and green (Viénot et al. 1999, deuteranopia)."""
    from matplotlib.colors import to_rgb

    from hw1.plots.style import BLUE, ORANGE

    def seen(color: str) -> np.ndarray:
        r, g, b = np.array(to_rgb(color)) ** 2.2
        yellow = 0.29275 * r + 0.70725 * g
        return np.array([yellow, b])

    assert np.abs(seen(BLUE) - seen(ORANGE)).max() > 0.2
    styles = [line.get_linestyle() for line in plot_curves(rows(30)).axes[0].get_lines()]
    assert len(set(styles)) == 2


def some_images(num: int, size: int = 32) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (num, size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("num", [1, 13])
def test_samples_show_each_image_under_its_title(num):
    images, titles = some_images(num), [f"class_{i}" for i in range(num)]
    figure = plot_samples(images, titles)
    shown = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title() for axes in shown] == titles
    for axes, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), image)
    assert_no_overlap(figure)


def test_small_images_stay_sharp(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    save_figure(plot_samples([image], ["edge"]), tmp_path / "s.png")
    pixels = np.asarray(Image.open(tmp_path / "s.png").convert("L"))
    middle = pixels[pixels.shape[0] // 2]
    assert set(np.unique(middle)) <= {0, 255}


def test_titles_are_plain_text_and_cut(tmp_path, recwarn):
    titles = ["$\\frac{$ x_1", "Wide" + "W" * 60, "金魚", "100%_of #1 & co", ""]
    figure = plot_samples(some_images(5), titles)
    assert_no_overlap(figure)
    shown = [axes.get_title() for axes in figure.axes]
    assert shown[::2] == titles[::2]
    assert shown[3:] == titles[3:]
    assert shown[1].startswith("Wide")
    assert shown[1].endswith("W…")
    assert 8 < len(shown[1]) < 60
    save_figure(figure, tmp_path / "s.png")
    assert not [str(w.message) for w in recwarn], "a script that the font lacks is no news to the user"


def test_samples_need_images_and_as_many_titles():
    with pytest.raises(ValueError, match="0 images and 0 titles"):
        plot_samples([], [])
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        plot_samples(some_images(2), ["a"])


def test_saved_file_is_a_png_without_metadata(tmp_path):
    save_figure(plot_curves(rows(3)), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.size == (1620, 504)
        assert set(image.info) <= {"dpi"}
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_same_data_same_bytes_whatever_the_user_has_set(tmp_path):
    for name, settings in {
        "a": {},
        "b": {"figure.facecolor": "black", "font.size": 20, "savefig.dpi": 40, "savefig.bbox": "tight"},
    }.items():
        with matplotlib.rc_context(settings):
            save_figure(plot_curves(rows(2)), tmp_path / f"c{name}.png")
            save_figure(plot_samples(some_images(1), ["x"]), tmp_path / f"s{name}.png")
            assert all(matplotlib.rcParams[key] == value for key, value in settings.items()), "the user's settings are put back"
    assert (tmp_path / "ca.png").read_bytes() == (tmp_path / "cb.png").read_bytes()
    assert (tmp_path / "sa.png").read_bytes() == (tmp_path / "sb.png").read_bytes()


def test_second_process_same_bytes_and_neither_pyplot_nor_torch(tmp_path):
    code = (
        "import json, sys; from pathlib import Path\n"
        "from hw1.plots import plot_curves, save_figure\n"
        f"save_figure(plot_curves(json.loads({json.dumps(rows(5))!r})), Path({str(tmp_path / 'b.png')!r}))\n"
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
    save_figure(plot_curves(rows(5)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_failed_write_keeps_the_old_image(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    save_figure(plot_samples(some_images(1), ["a"]), path)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match="No space"):
        save_figure(plot_samples(some_images(2), ["a", "b"]), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["curves.png"]


def test_cells_may_be_empty_and_titles_have_two_lines():
    figure = plot_samples([*some_images(2), None, *some_images(1)], ["a\nb", "$x\n" + "W" * 60, "", "c"], columns=3)
    shown = [len(axes.get_images()) for axes in figure.axes]
    assert shown == [1, 1, 0, 1, 0, 0]
    first, second = figure.axes[1].get_title().split("\n")
    assert (first, second[-1]) == ("$x", "…")
    assert_no_overlap(figure)


def cells(figure: Figure) -> np.ndarray:
    """Both layers of a confusion matrix as one array of shares, 0 where nothing is drawn."""
    right, wrong = (np.ma.filled(image.get_array(), 0.0) for image in figure.axes[0].get_images())
    assert not np.diag(wrong).any()
    assert not (right - np.diag(np.diag(right))).any()
    return right + wrong


@pytest.mark.parametrize("num", [2, 3, 20, 100])
def test_the_confusion_matrix_shows_shares_of_each_class(num):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.2, (num, num)) + np.diag(rng.integers(0, 9, num))
    order = rng.permutation(num)
    figure = plot_confusion(counts, [f"class {c}" for c in range(num)], order)
    expected = np.array([[counts[a, b] / max(counts[a].sum(), 1) for b in order] for a in order])
    np.testing.assert_allclose(cells(figure), expected)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"class {c}" for c in order]
    shown = zip(counts[np.ix_(order, order)].flat, expected.flat, strict=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ([f"{n}\n{share:.0%}" for n, share in shown if n] if num <= 20 else [])
    assert_no_overlap(figure)


def test_of_very_many_classes_those_with_most_mistakes_are_drawn():
    counts = np.diag(np.full(1000, 5))
    counts[7, 900] = counts[900, 8] = 3
    figure = plot_confusion(counts, ["x" * 80] * 1000, np.arange(1000)[::-1])
    assert cells(figure).shape == (120, 120)
    assert 3 / 8 in cells(figure)
    assert "120 of 1000 classes" in figure.get_suptitle()
    assert_no_overlap(figure)


def test_reliability_shows_accuracy_confidence_and_counts():
    rng = np.random.default_rng(0)
    panels = {}
    for title, power in (("before", 0.5), ("after", 1.0)):
        confidence = rng.random(500)
        panels[title] = equal_width(confidence, rng.random(500) < confidence**power)
    figure = plot_reliability(panels)
    above, below = figure.axes[:2], figure.axes[2:]
    for axes, histogram, bins in zip(above, below, panels.values(), strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], bins.accuracy)
        assert [bar.get_height() for bar in histogram.patches] == bins.counts.tolist()
    assert [axes.get_title(loc="left") for axes in above] == ["before", "after"]
    assert_no_overlap(figure)
    one = equal_width(np.array([0.99]), np.array([True]))  # empty bins are left out, not drawn as 0
    assert len(plot_reliability({"one": one}).axes[0].patches) == 1
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_reliability({})


def test_a_class_whose_folder_is_not_utf8_is_drawn() -> None:
    figure = plot_samples(np.zeros((2, 8, 8, 3), np.uint8), ["caf\udce9", "plain"])
    assert [axes.get_title() for axes in figure.axes][:2] == ["caf?", "plain"]
