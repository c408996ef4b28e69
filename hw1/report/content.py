"""Work out everything that a report shows from a collection of runs: variants, comparisons, tables and figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hw1.ablate.variants import COMBINED, REPORT_PAIRS, VARIANTS
from hw1.errors import UserError
from hw1.html.table import Table
from hw1.report.compare.baseline import Comparisons, compare_variants, comparison_tables
from hw1.report.compare.changed_images import ChangedImages, changed_images
from hw1.report.compare.class_gains import class_table
from hw1.report.compare.curves import CurveData, curve_data, draw_curves
from hw1.report.compare.setting_tables import environment_table, key_table
from hw1.report.compare.variants import Variant, group_runs, relabelled
from hw1.report.figures import DrawnFigure, draw_all
from hw1.report.pair_results import PairResult, compare_pairs
from hw1.report.run_record import Collection
from hw1.report.tables import all_tables
from hw1.utils.text import some_of

REPORT_VARIANTS = tuple(dict.fromkeys([*(name for pair in REPORT_PAIRS for name in (pair.without, pair.with_)), COMBINED.variant]))


@dataclass(frozen=True, eq=False)
class Ablation:
    """The report's own pairs and figures, where its variants are among the runs.

    Attributes:
        results: The result of every pair; empty without any of the variants.
        figures: The figures that could be drawn.
        missing: Which figures could not be drawn and what trains their runs, or why there are none; empty where all are there.
    """

    results: list[PairResult]
    figures: list[DrawnFigure]
    missing: str


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Attributes:
        collection: All runs, by the names of their variants.
        variants: The variants.
        comparisons: Each variant against the baseline.
        changed: Images that the variants change.
        curves: What the page draws.
        curve_files: The same as PNG and SVG files, by name.
        ablation: The report's own pairs and figures.
        tables: All tables that have rows, by name.
    """

    collection: Collection
    variants: list[Variant]
    comparisons: Comparisons
    changed: list[ChangedImages]
    curves: CurveData
    curve_files: dict[str, bytes]
    ablation: Ablation
    tables: dict[str, Table]


def build_report(collection: Collection, baseline: str | None = None) -> Report:
    """Compare, tabulate and draw the runs of a collection.

    Args:
        collection: The runs.
        baseline: Name of the variant that all others are compared with; None is the first, without adjusted p-values.

    Raises:
        UserError: No run has an epoch that can be read, or there is no such variant.
    """
    variants = group_runs(collection)
    if not variants:
        raise UserError(f"{collection.root}: no run with an epoch that can be read")
    named = relabelled(collection, variants)
    comparisons = compare_variants(named, variants, baseline)
    ablation = _ablation(collection)
    tables = [
        *all_tables(named, ablation.results),
        key_table(variants),
        environment_table(named.runs),
        *comparison_tables(comparisons),
        class_table(comparisons),
    ]
    return Report(
        collection=named,
        variants=variants,
        comparisons=comparisons,
        changed=changed_images(comparisons.results),
        curves=curve_data(variants, comparisons.baseline),
        curve_files=draw_curves(variants, comparisons.baseline),
        ablation=ablation,
        tables={table.name: table for table in tables if table.rows},
    )


def _ablation(collection: Collection) -> Ablation:
    """Draw the report's figures; a seed that comes twice, as in two folders of runs, would be counted once at random, so it forbids it."""
    runs = Counter((run.variant, run.seed) for run in collection.runs if run.variant in VARIANTS)
    if not runs:
        return Ablation([], [], "")
    twice = [f"{variant} seed {seed}" for (variant, seed), count in runs.items() if count > 1]
    if twice:
        return Ablation([], [], f"The report's figures are not drawn, as runs come twice: {some_of(twice)}.")
    results = compare_pairs(collection)
    figures = draw_all(collection, results)
    return Ablation(results, [figure for figure in figures if not figure.missing], _missing(collection, figures))


def _missing(collection: Collection, figures: Sequence[DrawnFigure]) -> str:
    numbers = [int(figure.name.removeprefix("fig")) for figure in figures if figure.missing]
    if not numbers:
        return ""
    finished = {run.variant for run in collection.runs}
    seeds = sorted({run.seed for run in collection.runs if run.variant in VARIANTS})
    names = " ".join(name for name in REPORT_VARIANTS if name not in finished)
    return f"Not drawn, for want of runs: figures {_ranges(numbers)}. hw1 ablate {names} --seeds {' '.join(map(str, seeds))} trains them."


def _ranges(numbers: Sequence[int]) -> str:
    """Write rising numbers as in "1, 3-6"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
