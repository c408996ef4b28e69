"""Tables of pairs: verdicts, seeds and published numbers. Accuracies are fractions (0-1), differences points (hundredths of accuracy)."""

from collections.abc import Sequence
from typing import Any, Literal

from hw1.ablate.variants import NUM_PUBLISHED_EPOCHS, NUM_PUBLISHED_IMAGES, Published
from hw1.evaluation.power import POWER
from hw1.evaluation.significance import ALPHA
from hw1.html.table import Column, Table
from hw1.report.pair_results import PairResult
from hw1.report.points import to_points
from hw1.report.published import FULL_BATCH, LAST_BATCH, MIN_LAST, NUM_FULL, CountPair, list_numbers
from hw1.report.run_record import RunRecord
from hw1.report.run_tables import METRIC_COLUMNS, METRICS, SPREAD_NOTE, run_paths, variant_title
from hw1.report.seed_summary import summarize_seeds
from hw1.report.verdict import MIN_SEEDS

TEST_NOTE = (
    "The t test takes the differences of the seeds as independent and normal, which so few of them cannot show. Intervals of an accuracy "
    "difference end at -100 and +100 points."
)
"""What the verdicts assume."""


def verdict_table(results: Sequence[PairResult]) -> Table:
    """Tabulate the difference of each pair at the last epoch: its intervals, its tests, and the sample sizes it needs."""
    rows = [_verdict_row(result) for result in results if result.matched.runs]
    columns = (
        Column("title", "pair"),
        Column("outcome", "verdict"),
        Column("num_seeds", "seeds", 0),
        Column("num_images", "images", 0),
        Column("difference_points", "difference, points", 2, signed=True),
        Column("seeds_low", "95% t interval over seeds", 2, upper="seeds_high", signed=True),
        Column("images_low", "95% bootstrap interval over images", 2, upper="images_high", signed=True),
        Column("p", "p", 3),
        Column("p_holm", "p, Holm", 3),
        Column("seeds_needed_low", "seeds needed", 0, upper="seeds_needed_high"),
        Column("images_needed_low", "images needed", 0, upper="images_needed_high"),
    )
    runs = [run for result in results for run in result.matched.runs]
    notices = [f"{r.title}: {line}" for r in results if r.matched.runs for line in (*r.matched.obstacles, *r.matched.notices)]
    notices += shared_runs(results)
    num_tested = sum(row["p_holm"] is not None for row in rows)
    note = (
        f"Last epoch, with minus without, same seeds on both sides. Better or worse: p < {ALPHA} in the paired t test over seeds after "
        f"Holm's correction for {num_tested} tested pair{'s' * (num_tested != 1)}; fewer than {MIN_SEEDS} seeds get no verdict. "
        f"{TEST_NOTE} Seeds needed: to detect a difference of this size with a power of {POWER} at the level {ALPHA} (divided by the "
        "number of pairs, for Holm), over the 95% interval of the measured spread (chi-square). Images needed: the same at the level "
        f"{ALPHA} for McNemar's test of one run of each, over the 95% interval of the measured disagreement (Wilson). A dash: cannot be "
        'estimated, or more than 1,000 seeds or a million images; "or more": so is the upper end.'
    )
    return Table("verdicts", "Verdicts", columns, rows, run_paths(runs), notices, note)


def shared_runs(results: Sequence[PairResult]) -> list[str]:
    """Return a line that names the variants whose runs stand in several tested pairs; none if there are none."""
    tested = [result for result in results if result.verdict and result.verdict.p_adjusted is not None]
    names = dict.fromkeys(name for result in tested for name in (result.pair.without, result.pair.with_))
    titles = {name: [r.title for r in tested if name in (r.pair.without, r.pair.with_)] for name in names}
    shared = "; ".join(f"{name} in {' and '.join(of_name)}" for name, of_name in titles.items() if len(of_name) > 1)
    if not shared:
        return []
    return [f"pairs share runs, so that their tests are not independent, which Holm's correction allows: {shared}"]


def _verdict_row(result: PairResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pair": result.pair.name, "title": result.title, "without": result.pair.without, "with": result.pair.with_,
        "outcome": result.outcome, "sentence": result.sentence, "num_seeds": len(result.matched.seeds),
        **dict.fromkeys(("num_images", "difference_points", "seeds_std", "seeds_low", "seeds_high", "images_low", "images_high")),
        **dict.fromkeys(("p", "p_holm", "seeds_needed_low", "seeds_needed_high", "images_needed_low", "images_needed_high")),
    }  # fmt: skip
    if result.verdict:
        comparison = result.verdict.comparison
        over_seeds, over_images = comparison.over_seeds, comparison.over_images
        row |= {
            "num_images": comparison.num_images,
            "difference_points": 100 * over_seeds.mean,
            "seeds_std": to_points(over_seeds.std),
            "seeds_low": to_points(over_seeds.low),
            "seeds_high": to_points(over_seeds.high),
            "images_low": to_points(over_images.low),
            "images_high": to_points(over_images.high),
            "p": over_seeds.p if over_seeds.n >= MIN_SEEDS else None,
            "p_holm": result.verdict.p_adjusted,
            "images_needed_low": comparison.images_needed.low,
            "images_needed_high": comparison.images_needed.high,
        }
        if result.verdict.seeds_needed:
            row["seeds_needed_low"], row["seeds_needed_high"] = result.verdict.seeds_needed
    return row


def pair_table(result: PairResult) -> Table:
    """Tabulate the two variants of a pair over the seeds that both have, with the published values."""
    pair, matched = result.pair, result.matched
    sides = ((pair.without, matched.without, pair.published_without), (pair.with_, matched.with_, pair.published_with))
    rows = [
        {
            "variant": name,
            "title": variant_title(name, runs),
            **summarize_seeds(runs, METRICS),
            **_published(published),
            "runs": " ".join(run_paths(runs)),
        }
        for name, runs, published in sides
    ]
    columns = [Column("variant", "variant"), Column("title", "what it is"), *METRIC_COLUMNS]
    if pair.published_without or pair.published_with:
        columns += [
            Column("published_accuracy", "published accuracy", 4),
            Column("published_loss", "published loss", 4),
            Column("published_minutes", f"published minutes, {NUM_PUBLISHED_EPOCHS} epochs", 0),
        ]
    return Table(
        f"pair_{pair.name}", result.title, columns, rows, run_paths(matched.runs), [*matched.obstacles, *matched.notices], SPREAD_NOTE
    )


def seed_table(results: Sequence[PairResult]) -> Table:
    """Tabulate McNemar's exact test of the two runs for each pair and seed, never of several seeds together."""
    rows: list[dict[str, Any]] = []
    compared: list[RunRecord] = []
    for result in results:
        if result.verdict is None:
            continue
        compared += result.matched.runs
        mcnemar = result.verdict.comparison.mcnemar
        for without, with_, test in zip(result.matched.without, result.matched.with_, mcnemar, strict=True):
            rows.append({
                "pair": result.pair.name, "title": result.title, "seed": without.seed, "num_images": len(without.files),
                "accuracy_without": without.last["val_top1"], "accuracy_with": with_.last["val_top1"],
                "difference_points": 100 * (with_.last["val_top1"] - without.last["val_top1"]),
                "only_without": test.only_without, "only_with": test.only_with, "p_mcnemar": test.p,
                "run_without": without.path, "run_with": with_.path,
            })  # fmt: skip
    columns = (
        Column("title", "pair"),
        Column("seed", "seed", 0),
        Column("accuracy_without", "accuracy without", 4),
        Column("accuracy_with", "accuracy with", 4),
        Column("difference_points", "difference, points", 2, signed=True),
        Column("only_without", "right only without", 0),
        Column("only_with", "right only with", 0),
        Column("p_mcnemar", "McNemar p", 3),
        Column("run_without", "run without"),
        Column("run_with", "run with"),
    )
    note = "McNemar's exact test compares these two trained models on these images; it says nothing about the recipes, and is not adjusted."
    return Table("seeds", "Seed by seed", columns, rows, run_paths(compared), (), note)


def published_table(results: Sequence[PairResult]) -> Table:
    """Tabulate what the published accuracies alone, one run each on 300 images, can and cannot say."""
    rows = []
    for result in results:
        verdict, without, with_ = result.published, result.pair.published_without, result.pair.published_with
        if verdict and without and with_:
            interval = verdict.interval
            rows.append({
                "pair": result.pair.name, "title": result.title, "accuracy_without": without.accuracy, "accuracy_with": with_.accuracy,
                "difference_points": 100 * interval.mean, "low": to_points(interval.low), "high": to_points(interval.high),
                "images_without": list_numbers(pair.without for pair in verdict.counts),
                "images_with": list_numbers(pair.with_ for pair in verdict.counts),
                "images_difference": list_numbers((pair.difference for pair in verdict.counts), signed=True),
                **_p_range("p_best", verdict.counts), **_p_range("p_independent", verdict.counts),
                "claim": verdict.claim, "sentence": verdict.sentence,
            })  # fmt: skip
    columns = (
        Column("title", "pair"),
        Column("accuracy_without", "published without", 4),
        Column("accuracy_with", "published with", 4),
        Column("images_without", "images right without"),
        Column("images_with", "images right with"),
        Column("images_difference", "difference, images"),
        Column("difference_points", "difference, points", 2, signed=True),
        Column("low", "95% interval (Newcombe)", 2, upper="high", signed=True),
        Column("p_best_low", "p, best case", 3, upper="p_best_high"),
        Column("p_independent_low", "p, independent errors", 3, upper="p_independent_high"),
    )
    note = (
        f"The published numbers are the report's own, of its own data: one run each on {NUM_PUBLISHED_IMAGES} images, last epoch. Each "
        f"accuracy is a mean over {NUM_FULL} batches of {FULL_BATCH} and one of {LAST_BATCH} images, which several counts of right images "
        f"give; listed are those with at least {MIN_LAST} of the last {LAST_BATCH} right, and intervals and p are ranges over all of them. "
        "Best case: no image is right only in the run that is worse. Differences in points."
    )
    return Table("published", "Published numbers", columns, rows, (), (), note)


def _p_range(name: Literal["p_best", "p_independent"], counts: Sequence[CountPair]) -> dict[str, float]:
    values = [getattr(pair, name) for pair in counts]
    return {f"{name}_low": min(values), f"{name}_high": max(values)}


def _published(published: Published | None) -> dict[str, Any]:
    if not published:
        return {"published_accuracy": None, "published_loss": None, "published_minutes": None}
    return {"published_accuracy": published.accuracy, "published_loss": published.loss, "published_minutes": 60 * published.hours}
