"""The tables of single runs and variants, and those of the report's own pairs, in their order."""

from collections.abc import Sequence

from hw1.ablate.variants import PAIRS
from hw1.html.table import Table
from hw1.report.calibration_tables import calibration_pair_table, calibration_table
from hw1.report.pair_results import PairResult
from hw1.report.pair_tables import pair_table, published_table, seed_table, verdict_table
from hw1.report.run_record import Collection
from hw1.report.run_tables import absent_table, run_table, variant_table


def all_tables(collection: Collection, results: Sequence[PairResult]) -> list[Table]:
    """Return the tables of the runs and, given results, of the report's pairs; tables without rows are left out."""
    tables = [
        verdict_table(results),
        *(pair_table(result) for result in results if result.matched.runs),
        seed_table(results),
        variant_table(collection),
        calibration_table(collection),
        calibration_pair_table(results),
        published_table(results),
        run_table(collection),
        absent_table(collection),
    ]
    return [table for table in tables if table.rows]


def possible_tables() -> list[str]:
    """Return the names of all tables that `all_tables` can return."""
    pairs = [f"pair_{pair.name}" for pair in PAIRS]
    return ["verdicts", *pairs, "seeds", "variants", "calibration", "calibration_pairs", "published", "runs", "absent"]
