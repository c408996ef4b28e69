"""The report's figures 1-18 and one of all differences, drawn from runs; a figure without runs is named with the reason."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hw1.ablate.variants import COMBINED, REPORT_PAIRS, VARIANTS, Pair
from hw1.plots import Difference, Figure, plot_differences, plot_seeds, plot_training_curve, render_figure
from hw1.report.collect import Collection, RunRecord
from hw1.report.pairing import other_circumstances, other_material, other_recipes
from hw1.report.verdict import PairResult
from hw1.runs.epoch_metrics import EpochMetrics

BAND = "Line: mean over seeds; band: ± 1 standard deviation."
Rows = list[EpochMetrics]
NAMES = ("differences", *(f"fig{number:02}" for number in range(1, 19)))
"""Every file that `draw_all` can make, without its ending."""


@dataclass(frozen=True)
class DrawnFigure:
    """`png` and `svg` are files, or empty where `missing` says why there is no figure. `sources`: the runs drawn."""

    name: str
    title: str
    caption: str
    sources: Sequence[str] = ()
    notices: Sequence[str] = ()
    png: bytes = b""
    svg: bytes = b""
    missing: str = ""


def draw_all(collection: Collection, results: Sequence[PairResult]) -> list[DrawnFigure]:
    """The differences, then figures 1-18 in order."""
    drawn = [_differences(results)]
    for pair in REPORT_PAIRS:
        drawn += _pair_figures(pair, collection)
    drawn += _combined_figures(collection)
    return [drawn[0], *sorted(drawn[1:], key=lambda figure: figure.name)]


def _pair_figures(pair: Pair, collection: Collection) -> list[DrawnFigure]:
    curve_without, curve_with, accuracy, loss = pair.figures
    both = [pair.without, pair.with_]
    return [
        _training_curve(curve_without, pair.without, f"without {pair.title}", collection),
        _training_curve(curve_with, pair.with_, f"with {pair.title}", collection),
        _validation(accuracy, both, "val_top1", f"with and without {pair.title}", collection),
        _validation(loss, both, "val_loss", f"with and without {pair.title}", collection),
    ]


def _combined_figures(collection: Collection) -> list[DrawnFigure]:
    curve, accuracy = COMBINED.figures
    return [
        _training_curve(curve, COMBINED.variant, f"of {COMBINED.title}", collection),
        _validation(accuracy, [COMBINED.variant], "val_top1", f"of {COMBINED.title}", collection),
    ]


def _training_curve(number: int, variant: str, title: str, collection: Collection) -> DrawnFigure:
    what = f"Training curve of {variant} ({VARIANTS[variant].title})."
    return _draw(number, f"Training curve {title}", what, [variant], collection, lambda runs, head: plot_training_curve(runs[0], head))


def _validation(number: int, variants: list[str], key: Literal["val_top1", "val_loss"], title: str, collection: Collection) -> DrawnFigure:
    measure = "accuracy" if key == "val_top1" else "loss"
    labels = [VARIANTS[name].title for name in variants]
    what = f"Validation {measure} of {' and '.join(f'{name} ({label})' for name, label in zip(variants, labels, strict=True))}."

    def plot(runs: list[list[Rows]], head: str) -> Figure:
        return plot_seeds(dict(zip(labels, runs, strict=True)), key, head)

    return _draw(number, f"Validation {measure} {title}", what, variants, collection, plot)


def _draw(
    number: int,
    title: str,
    caption: str,
    variants: Sequence[str],
    collection: Collection,
    plot: Callable[[list[list[Rows]], str], Figure],
) -> DrawnFigure:
    name, head = f"fig{number:02}", f"Figure {number}. {title}"
    sides = [collection.of(variant) for variant in variants]
    absent = [variant for variant, runs in zip(variants, sides, strict=True) if not runs]
    if absent:
        return DrawnFigure(name, head, caption, missing=f"no finished run of {' or '.join(absent)}")
    figure = plot([[run.rows for run in runs] for runs in sides], "\n".join(textwrap.wrap(head, 72)))
    runs = [run for side in sides for run in side]
    notices = [*other_material(runs), *other_circumstances(runs), *(line for side in sides for line in other_recipes(side))]
    caption = " ".join([caption, *([BAND] if any(len(side) > 1 for side in sides) else []), *_shortened(sides)])
    png, svg = render_figure(figure, "png"), render_figure(figure, "svg")
    return DrawnFigure(name, head, caption, [run.path for run in runs], notices, png, svg)


def _shortened(sides: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Runs that stopped early cut the mean: said where it happens."""
    cut = [side for side in sides if len({len(run.rows) for run in side}) > 1]
    return [f"Drawn to epoch {min(len(run.rows) for run in side)}, the end of the shortest run of {side[0].variant}." for side in cut]


def _differences(results: Sequence[PairResult]) -> DrawnFigure:
    shown = [result for result in results if result.verdict or result.published]
    runs = {run.path: run for result in shown if result.verdict for run in result.matched.runs}
    title = "What each change does to accuracy"
    figure = plot_differences([_difference(result) for result in shown], title)
    notices = [*other_material(list(runs.values())), *other_circumstances(list(runs.values()))]
    caption = (
        "Accuracy with minus without at the last epoch, same seeds on both sides: mean with its 95% t interval, not adjusted for the "
        "number of pairs; one mark a seed. Grey: the published difference, of other data, one run each on 300 images, with Newcombe's "
        "interval."
    )
    png, svg = render_figure(figure, "png"), render_figure(figure, "svg")
    return DrawnFigure("differences", title, caption, list(runs), notices, png, svg)


def _difference(result: PairResult) -> Difference:
    label = "\n".join(textwrap.wrap(result.title, 30))
    mean = low = high = published = None
    per_seed: list[float] = []
    if result.verdict:
        found = result.verdict.comparison
        ends = (found.over_seeds.mean, found.over_seeds.low, found.over_seeds.high)
        mean, low, high = (None if end is None else 100 * end for end in ends)
        per_seed = [100 * (test.only_with - test.only_without) / found.num_images for test in found.mcnemar]
    if result.published:
        interval = result.published.range.interval
        if interval.low is not None and interval.high is not None:
            published = (100 * interval.mean, 100 * interval.low, 100 * interval.high)
    return Difference(label, mean, low, high, per_seed, published)
