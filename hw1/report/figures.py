"""Draw figures 1-18 of the report and one of all differences; a figure without runs is listed with the reason."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hw1.ablate.variants import COMBINED, NUM_PUBLISHED_EPOCHS, NUM_PUBLISHED_IMAGES, REPORT_PAIRS, VARIANTS, Pair
from hw1.plots import Difference, Figure, plot_differences, plot_seeds, plot_training_curve, render_figure
from hw1.report.figure_tables import Side, training_summary, validation_summary
from hw1.report.pair_results import PairResult
from hw1.report.pairing import data_differences, environment_differences, recipe_differences
from hw1.report.points import to_points
from hw1.report.run_record import Collection, RunRecord

BAND_NOTE = "Line: mean over seeds; band: ± 1 standard deviation."
PUBLISHED_NOTE = f"Published: the report's run on its own data, at its last epoch; its minutes cover {NUM_PUBLISHED_EPOCHS} epochs."
COMBINED_NOTE = (
    "The report published no run of its own here: its figure 13 is its figure 15, picture for picture, and the curve of its figure 14 is "
    "that of its run without Mixup in figure 3."
)
NAMES = ("differences", *(f"fig{number:02}" for number in range(1, 19)))
"""Names of all files that `draw_all` can make, without the ending."""


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
    drawn = [draw_differences(results)]
    for pair in REPORT_PAIRS:
        drawn += _pair_figures(pair, collection)
    drawn += _combined_figures(collection)
    return [drawn[0], *sorted(drawn[1:], key=lambda figure: figure.name)]


def _pair_figures(pair: Pair, collection: Collection) -> list[DrawnFigure]:
    curve_without, curve_with, accuracy, loss = pair.figures
    sides = [
        Side("without", pair.without, collection.runs_of(pair.without), pair.published_without),
        Side("with", pair.with_, collection.runs_of(pair.with_), pair.published_with),
    ]
    changed, _, other = pair.title.partition(" instead of ")
    both = f"with {changed} and with {other}" if other else f"with and without {changed}"
    return [
        _training_curve(curve_without, sides[0]),
        _training_curve(curve_with, sides[1]),
        _validation(accuracy, sides, "val_top1", both),
        _validation(loss, sides, "val_loss", both),
    ]


def _combined_figures(collection: Collection) -> list[DrawnFigure]:
    curve, accuracy = COMBINED.figures
    side = Side("", COMBINED.variant, collection.runs_of(COMBINED.variant), None)
    return [
        _training_curve(curve, side, f" of {COMBINED.title}", COMBINED_NOTE),
        _validation(accuracy, [side], "val_top1", f"of {COMBINED.title}", COMBINED_NOTE),
    ]


def _training_curve(number: int, side: Side, of: str = "", note: str = "") -> DrawnFigure:
    title = VARIANTS[side.variant].title
    caption = f"Training curve of {side.variant} ({title}). {_same_runs(side.variant)}{note}".rstrip()

    def plot(heading: str) -> Figure:
        return plot_training_curve([run.epochs for run in side.runs], heading, training_summary(side))

    return _draw(number, f"Training curve{of}: {title}", caption, [side], plot)


def _validation(number: int, sides: Sequence[Side], key: Literal["val_top1", "val_loss"], title: str, note: str = "") -> DrawnFigure:
    metric = "accuracy" if key == "val_top1" else "loss"
    labels = {side.variant: VARIANTS[side.variant].title for side in sides}
    caption = f"Validation {metric} of {' and '.join(f'{name} ({label})' for name, label in labels.items())}. {note}".rstrip()

    def plot(heading: str) -> Figure:
        seeds = {f"{side.name}: {labels[side.variant]}".lstrip(": "): [run.epochs for run in side.runs] for side in sides}
        return plot_seeds(seeds, key, heading, validation_summary(sides, key))

    return _draw(number, f"Validation {metric} {title}", caption, sides, plot)


def _same_runs(variant: str) -> str:
    """Say which training curves are of the same runs, and how many different runs the report published for them; empty for one of each."""
    curves = [(pair.figures[side], name) for pair in REPORT_PAIRS for side, name in enumerate((pair.without, pair.with_))]
    numbers = sorted(number for number, name in [*curves, (COMBINED.figures[0], COMBINED.variant)] if name == variant)
    if len(numbers) < 2:
        return ""
    *others, last = map(str, numbers)
    published = VARIANTS[variant].published
    twice = f"; the report published {len(published)} runs of this configuration" if len(published) > 1 else ""
    return f"Figures {', '.join(others)} and {last} are of the same runs{twice}. "


def _draw(number: int, title: str, caption: str, sides: Sequence[Side], plot: Callable[[str], Figure]) -> DrawnFigure:
    name, heading = f"fig{number:02}", f"Figure {number}. {title}"
    absent = [side.variant for side in sides if not side.runs]
    if absent:
        return DrawnFigure(name, heading, caption, missing=f"no finished run of {' or '.join(absent)}")
    figure = plot(heading)
    all_runs = [run for side in sides for run in side.runs]
    recipe_notices = [line for side in sides for line in recipe_differences(side.runs)]
    notices = [*data_differences(all_runs), *environment_differences(all_runs), *recipe_notices]
    models = f"Model: {', '.join(dict.fromkeys(run.recipe.model.name for run in all_runs))}."
    band = [BAND_NOTE] if any(len(side.runs) > 1 for side in sides) else []
    published = [PUBLISHED_NOTE] if any(side.published for side in sides) else []
    caption = " ".join([caption, models, *band, *_length_notes([side.runs for side in sides]), *published])
    png, svg = render_figure(figure, "png"), render_figure(figure, "svg")
    return DrawnFigure(name, heading, caption, [run.path for run in all_runs], notices, png, svg)


def _length_notes(runs_of: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Return a line for each variant whose runs have different lengths: its curve ends with the shortest."""
    unequal = [runs for runs in runs_of if len({len(run.epochs) for run in runs}) > 1]
    return [f"Drawn to epoch {min(len(run.epochs) for run in runs)}, the end of the shortest run of {runs[0].variant}." for runs in unequal]


def draw_differences(results: Sequence[PairResult]) -> DrawnFigure:
    """Draw the difference of each pair that was compared or published."""
    shown = [result for result in results if result.verdict or result.published]
    runs = {run.path: run for result in shown if result.verdict for run in result.matched.runs}
    title = "What each change does to accuracy"
    figure = plot_differences([_difference(result) for result in shown], title)
    notices = [*data_differences(list(runs.values())), *environment_differences(list(runs.values()))]
    caption = (
        "Accuracy with minus without at the last epoch, same seeds on both sides: mean with its 95% t interval, not adjusted for the "
        "number of pairs; one tick per seed. Grey: the published difference, of other data, one run each on "
        f"{NUM_PUBLISHED_IMAGES} images, with Newcombe's "
        "interval over all counts of right images that the published accuracies allow."
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
        interval = result.published.interval
        if interval.low is not None and interval.high is not None:
            published = (100 * interval.mean, 100 * interval.low, 100 * interval.high)
    return Difference(label, mean, low, high, per_seed, published)
