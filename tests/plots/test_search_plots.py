"""The figures of sweeps and of cross-validations: what is drawn is the data."""

import numpy as np
import pytest

from hw1.plots.folds import Accuracy, plot_folds
from hw1.plots.style import render_figure
from hw1.plots.sweep import TrialPoint, plot_sweep

SCORES = [0.5, 0.7, 0.4, 0.6, 0.9]
PRUNED = [False, False, True, False, True]


def trials() -> list[TrialPoint]:
    values = [{"optim.lr": 10.0**-n, "sched.name": "cosine" if n % 2 else "step"} for n in range(1, 6)]
    return [TrialPoint(n, *each) for n, each in enumerate(zip(SCORES, PRUNED, values, strict=True), start=1)]


def points_of(axes: object) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines}


@pytest.mark.parametrize(("minimize", "best"), [(False, [0.5, 0.7, 0.7]), (True, [0.5, 0.5, 0.5])])
def test_a_sweep_is_drawn_by_trial_with_the_best_that_was_trained_to_its_end(minimize, best):
    first = points_of(plot_sweep(trials(), "top1", minimize=minimize).axes[0])
    assert first["trained to the end"] == [(1, 0.5), (2, 0.7), (4, 0.6)]
    assert first["stopped early"] == [(3, 0.4), (5, 0.9)]
    assert first["best so far"] == list(zip([1, 2, 4], best, strict=True))


def test_each_key_has_a_panel_with_the_scores_over_its_values():
    figure = plot_sweep(trials(), "top1", minimize=False, log_keys=["optim.lr"])
    _, rate, name = figure.axes[:3]
    assert (rate.get_xlabel(), rate.get_xscale(), name.get_xlabel()) == ("optim.lr", "log", "sched.name")
    drawn = sorted(point for points in points_of(rate).values() for point in points)
    np.testing.assert_allclose(drawn, sorted((10.0**-n, score) for n, score in enumerate(SCORES, start=1)))
    assert [label.get_text() for label in name.get_xticklabels()] == ["cosine", "step"]
    assert sorted(points_of(name)["stopped early"]) == [(0, 0.4), (0, 0.9)]
    assert render_figure(figure, "png") == render_figure(plot_sweep(trials(), "top1", minimize=False, log_keys=["optim.lr"]), "png")


def test_folds_are_drawn_beside_the_accuracy_of_all_images():
    figure = plot_folds([Accuracy(0.5, 0.4, 0.6, 50), Accuracy(0.7, 0.6, 0.8, 52)], Accuracy(0.6, 0.55, 0.65, 102))
    [axes] = figure.axes
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [0.5, 0.7]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fold 0 (50)", "fold 1 (52)"]
    assert any(text.get_text() == "all 102 images: 0.6000" for text in figure.legends[0].get_texts())


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="no trials"):
        plot_sweep([], "top1", minimize=False)
    with pytest.raises(ValueError, match="no folds"):
        plot_folds([], Accuracy(0.5, 0.4, 0.6, 50))
