"""Compare every variant with one of them, seed by seed, by the statistics of `hw1.report.verdict`."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hw1.ablate.variants import Pair
from hw1.errors import UserError
from hw1.evaluation.power import POWER
from hw1.evaluation.significance import ALPHA
from hw1.html.table import Table
from hw1.report.calibration_tables import calibration_pair_table
from hw1.report.compare.variants import Variant
from hw1.report.pair_results import PairResult
from hw1.report.pair_tables import TEST_NOTE, seed_table, verdict_table
from hw1.report.pairing import changed_keys, match_pair
from hw1.report.run_record import Collection
from hw1.report.verdict import MIN_SEEDS, compare, verdicts
from hw1.utils.text import some_of

MAX_UNASKED = 24
"""Variants that are compared with the first one where no baseline is named."""
TABLES = ("comparisons", "comparison_seeds", "comparison_calibration")
"""Names of the tables of `comparison_tables`."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Variants against a baseline.

    Attributes:
        baseline: The baseline; None where nothing is compared.
        results: One for each other variant, in order.
        adjustment: What is compared and what that means for p-values, in a sentence or two.
    """

    baseline: Variant | None
    results: list[PairResult]
    adjustment: str


def find_baseline(variants: Sequence[Variant], name: str | None) -> Variant | None:
    """Return the variant of a name; without a name the first that has a finished run, or None where none has.

    Raises:
        UserError: There is no such variant, or no run of it is finished.
    """
    finished = [variant for variant in variants if variant.runs]
    if name is None:
        return finished[0] if finished else None
    if found := [variant for variant in finished if variant.name == name]:
        return found[0]
    names = [variant.name for variant in variants]
    if name in names:
        raise UserError(f"--baseline {name}: no run of it is finished")
    near = difflib.get_close_matches(name, names, 1)
    raise UserError(f"--baseline {name}: no such variant; " + (f"nearest: {near[0]}" if near else f"there are {some_of(names)}"))


def compare_variants(collection: Collection, variants: Sequence[Variant], name: str | None) -> Comparisons:
    """Compare all variants with the baseline `name`; without a name with the first one, unadjusted, if they are few.

    Args:
        collection: The runs of `variants`, by their names.
        variants: The variants.
        name: The baseline's name, or None.

    Raises:
        UserError: See `find_baseline`.
    """
    baseline = find_baseline(variants, name)
    others = [variant for variant in variants if variant is not baseline and variant.runs]
    if baseline is None or not others:
        return Comparisons(baseline, [], "")
    if name is None and len(others) > MAX_UNASKED:
        return Comparisons(None, [], f"{len(others) + 1} variants are too many to compare unasked; --baseline NAME compares all with one.")
    matched = [match_pair(_pair(baseline, variant), collection) for variant in others]
    comparable = [item for item in matched if not item.obstacles]
    comparisons = [compare(*item.correct) for item in comparable]
    found = verdicts(comparisons) if name else [verdicts([comparison])[0] for comparison in comparisons]
    verdict_of = {item.pair.name: verdict for item, verdict in zip(comparable, found, strict=True)}
    results = [PairResult(item.pair, item, verdict_of.get(item.pair.name), None) for item in matched]
    return Comparisons(baseline, results, _adjustment(baseline, len(comparisons), name))


def comparison_tables(comparisons: Comparisons) -> list[Table]:
    """Return the tables of the comparisons, under the names of `TABLES`; those without rows are left out."""
    results = comparisons.results
    tables = (verdict_table(results), seed_table(results), calibration_pair_table(results))
    titles = ("Comparisons", "Comparisons, seed by seed", "What each variant does to calibration")
    renamed = [replace(table, name=name, title=title) for table, name, title in zip(tables, TABLES, titles, strict=True)]
    if not comparisons.results or comparisons.baseline is None:
        return []
    num_tests = max((result.verdict.num_tests for result in results if result.verdict), default=0)
    of_seeds = f" (of seeds {ALPHA}/{num_tests}, for Holm)" if num_tests > 1 else ""
    note = (
        f"Last epoch, variant minus {comparisons.baseline.name}, same seeds on both sides. Better or worse: "
        f"p < {ALPHA} in the paired t test over seeds; fewer than {MIN_SEEDS} seeds get no verdict. {comparisons.adjustment} {TEST_NOTE} "
        f"Every comparison is with the same runs of {comparisons.baseline.name}, so that they are not independent of each other. Seeds and "
        f"images needed: for a power of {POWER} at the level {ALPHA}{of_seeds} at the difference measured here, over the 95% "
        "interval of the measured spread or disagreement. A dash: cannot be estimated."
    )
    renamed[0] = replace(renamed[0], note=note, notices=())
    if num_tests < 2:
        renamed[0] = _without_column(renamed[0], "p_holm")
    return [table for table in renamed if table.rows]


def _without_column(table: Table, key: str) -> Table:
    rows = [{name: value for name, value in row.items() if name != key} for row in table.rows]
    return replace(table, columns=[column for column in table.columns if column.key != key], rows=rows)


def _pair(baseline: Variant, variant: Variant) -> Pair:
    keys = tuple(changed_keys(baseline.runs[0], variant.runs[0]))
    return Pair(variant.name, f"From {baseline.name} to {variant.name}", keys, baseline.name, variant.name)


def _adjustment(baseline: Variant, num: int, name: str | None) -> str:
    if num < 2:
        return ""
    if name is None:
        return (
            f"Each is compared with {baseline.name}, the first: p-values are not adjusted for the {num} comparisons, so that one of 20 "
            "without any effect looks significant. --baseline NAME asks for comparisons with one variant, and adjusts them."
        )
    return f"p-values are adjusted by Holm for the {num} comparisons with {baseline.name} that were asked for."
