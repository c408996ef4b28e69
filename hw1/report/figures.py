"""Draw figures 1-18 of the report and one of all differences; a figure without runs is listed with the reason."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hw1.ablate.variants import COMBINED, REPORT_PAIRS, VARIANTS, Pair
from hw1.plots import Difference, Figure, plot_differences, plot_seeds, plot_training_curve, render_figure
from hw1.report.pair_results import PairResult
from hw1.report.pairing import data_differences, environment_differences, recipe_differences
from hw1.report.points import to_points
from hw1.report.run_record import Collection, RunRecord
from hw1.runs.epoch_metrics import EpochMetrics

BAND_NOTE = "Line: mean over seeds; band: ± 1 standard deviation."
NAMES = ("differences", *(f"fig{number:02}" for number in range(1, 19)))
"""Names of all files that `draw_all` can make, without the ending."""

Seeds = Sequence[list[EpochMetrics]]
"""The epochs of each run of a variant."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of the report, or the reason why it is missing.

    Attributes:
        name: Name of its files, without the ending.
        title: Heading.
        caption: What it shows.
        sources: Paths of the runs that are drawn.
        notices: What qualifies a comparison of these runs.
        png: The PNG file; empty if the figure is missing.
        svg: The SVG file; empty if the figure is missing.
        missing: Why there is no figure; empty if there is one.
    """

    name: str
    title: str
    caption: str
    sources: Sequence[str] = ()
    notices: Sequence[str] = ()
    png: bytes = b""
    svg: bytes = b""
    missing: str = ""


def draw_all(collection: Collection, results: Sequence[PairResult]) -> list[DrawnFigure]:
    """Draw the differences, then figures 1-18 in order."""
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
    caption = f"Training curve of {variant} ({VARIANTS[variant].title})."

    def plot(seeds: Sequence[Seeds], heading: str) -> Figure:
        return plot_training_curve(seeds[0], heading)

    return _draw(number, f"Training curve {title}", caption, [variant], collection, plot)


def _validation(number: int, variants: list[str], key: Literal["val_top1", "val_loss"], title: str, collection: Collection) -> DrawnFigure:
    metric = "accuracy" if key == "val_top1" else "loss"
    labels = [VARIANTS[name].title for name in variants]
    caption = f"Validation {metric} of {' and '.join(f'{name} ({label})' for name, label in zip(variants, labels, strict=True))}."

    def plot(seeds: Sequence[Seeds], heading: str) -> Figure:
        return plot_seeds(dict(zip(labels, seeds, strict=True)), key, heading)

    return _draw(number, f"Validation {metric} {title}", caption, variants, collection, plot)


def _draw(
    number: int,
    title: str,
    caption: str,
    variants: Sequence[str],
    collection: Collection,
    plot: Callable[[Sequence[Seeds], str], Figure],
) -> DrawnFigure:
    name, heading = f"fig{number:02}", f"Figure {number}. {title}"
    runs_of = [collection.runs_of(variant) for variant in variants]
    absent = [variant for variant, runs in zip(variants, runs_of, strict=True) if not runs]
    if absent:
        return DrawnFigure(name, heading, caption, missing=f"no finished run of {' or '.join(absent)}")
    figure = plot([[run.epochs for run in runs] for runs in runs_of], "\n".join(textwrap.wrap(heading, 72)))
    all_runs = [run for runs in runs_of for run in runs]
    recipe_notices = [line for runs in runs_of for line in recipe_differences(runs)]
    notices = [*data_differences(all_runs), *environment_differences(all_runs), *recipe_notices]
    caption = " ".join([caption, *([BAND_NOTE] if any(len(runs) > 1 for runs in runs_of) else []), *_length_notes(runs_of)])
    png, svg = render_figure(figure, "png"), render_figure(figure, "svg")
    return DrawnFigure(name, heading, caption, [run.path for run in all_runs], notices, png, svg)


def _length_notes(runs_of: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Return a line for each variant whose runs have different lengths: its curve ends with the shortest."""
    unequal = [runs for runs in runs_of if len({len(run.epochs) for run in runs}) > 1]
    return [f"Drawn to epoch {min(len(run.epochs) for run in runs)}, the end of the shortest run of {runs[0].variant}." for runs in unequal]


def _differences(results: Sequence[PairResult]) -> DrawnFigure:
    shown = [result for result in results if result.verdict or result.published]
    runs = {run.path: run for result in shown if result.verdict for run in result.matched.runs}
    title = "What each change does to accuracy"
    figure = plot_differences([_difference(result) for result in shown], title)
    notices = [*data_differences(list(runs.values())), *environment_differences(list(runs.values()))]
    caption = (
        "Accuracy with minus without at the last epoch, same seeds on both sides: mean with its 95% t interval, not adjusted for the "
        "number of pairs; one tick per seed. Grey: the published difference, of other data, one run each on 300 images, with Newcombe's "
        "interval."
    )
    png, svg = render_figure(figure, "png"), render_figure(figure, "svg")
    return DrawnFigure("differences", title, caption, list(runs), notices, png, svg)


def _difference(result: PairResult) -> Difference:
    label = "\n".join(textwrap.wrap(result.title, 30))
    mean = low = high = published = None
    per_seed: list[float] = []
    if result.verdict:
        comparison = result.verdict.comparison
        over_seeds = comparison.over_seeds
        mean, low, high = (to_points(value) for value in (over_seeds.mean, over_seeds.low, over_seeds.high))
        per_seed = [100 * (test.only_with - test.only_without) / comparison.num_images for test in comparison.mcnemar]
    if result.published:
        interval = result.published.range.interval
        if interval.low is not None and interval.high is not None:
            published = (100 * interval.mean, 100 * interval.low, 100 * interval.high)
    return Difference(label, mean, low, high, per_seed, published)
