"""Tables of pairs: verdicts, seeds and published numbers. Accuracies are fractions (0-1), differences points (hundredths of accuracy)."""

from collections.abc import Sequence
from typing import Any

from hw1.ablate.variants import Published
from hw1.html.table import Column, Table
from hw1.report.pair_results import PairResult
from hw1.report.points import to_points
from hw1.report.run_record import RunRecord
from hw1.report.run_tables import METRIC_COLUMNS, METRICS, SPREAD_NOTE, run_paths, variant_title
from hw1.report.seed_summary import summarize_seeds


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
        Column("seeds_needed", "seeds needed", 0),
        Column("images_needed", "images needed", 0),
    )
    runs = [run for result in results for run in result.matched.runs]
    notices = [f"{r.title}: {line}" for r in results if r.matched.runs for line in (*r.matched.obstacles, *r.matched.notices)]
    num_tested = sum(row["p"] is not None for row in rows)
    note = (
        "Last epoch, with minus without, same seeds on both sides. Better or worse: p < 0.05 in the paired t test over seeds after Holm's "
        f"correction for {num_tested} tested pair{'s' * (num_tested != 1)}. Seeds needed: for a power of 80% at this difference and this "
        "spread. Images needed: the same for McNemar's test of one run of each. A dash: cannot be estimated, or more than 1,000 seeds or "
        "a million images."
    )
    return Table("verdicts", "Verdicts", columns, rows, run_paths(runs), notices, note)


def _verdict_row(result: PairResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pair": result.pair.name, "title": result.title, "without": result.pair.without, "with": result.pair.with_,
        "outcome": result.outcome, "sentence": result.sentence, "num_seeds": len(result.matched.seeds),
        **dict.fromkeys(("num_images", "difference_points", "seeds_std", "seeds_low", "seeds_high", "images_low", "images_high")),
        **dict.fromkeys(("p", "p_holm", "seeds_needed", "images_needed")),
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
            "p": over_seeds.p,
            "p_holm": result.verdict.p_adjusted,
            "seeds_needed": result.verdict.seeds_needed,
            "images_needed": comparison.images_needed,
        }
    return row


def pair_table(result: PairResult) -> Table:
    """Tabulate the two variants of a pair over the seeds that both have, with the published values."""
    pair, matched = result.pair, result.matched
    sides = ((pair.without, matched.without, pair.published_without), (pair.with_, matched.with_, pair.published_with))
    rows = [
        {
            "variant": name,
            "title": variant_title(name),
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
            Column("published_minutes", "published minutes", 0),
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
        if result.published:
            bounds = result.published.range
            rows.append({
                "pair": result.pair.name, "title": result.title, "num_images": bounds.num_images,
                "accuracy_without": result.pair.published_without.accuracy if result.pair.published_without else None,
                "accuracy_with": result.pair.published_with.accuracy if result.pair.published_with else None,
                "difference_points": 100 * bounds.interval.mean,
                "low": to_points(bounds.interval.low), "high": to_points(bounds.interval.high),
                "p_best": bounds.p_best, "p_independent": bounds.p_independent, "most_disagreements": bounds.most_disagreements,
                "smallest_best": to_points(bounds.smallest_best), "smallest_independent": to_points(bounds.smallest_independent),
                "claim": result.published.claim, "sentence": result.published.sentence,
            })  # fmt: skip
    columns = (
        Column("title", "pair"),
        Column("accuracy_without", "published without", 4),
        Column("accuracy_with", "published with", 4),
        Column("difference_points", "difference, points", 2, signed=True),
        Column("low", "95% interval (Newcombe)", 2, upper="high", signed=True),
        Column("p_best", "p, best case", 3),
        Column("p_independent", "p, independent errors", 3),
        Column("smallest_best", "smallest significant difference, best case", 1),
        Column("smallest_independent", "the same, independent errors", 1),
    )
    note = (
        "The published numbers are the report's own, of its own data: one run each on 300 images, last epoch. Best case: no image is right "
        "only in the run that is worse. The report averaged over batches of 32 and a last one of 12, so that its counts of images are only "
        "known to a few. Differences in points."
    )
    return Table("published", "Published numbers", columns, rows, (), (), note)


def _published(published: Published | None) -> dict[str, Any]:
    if not published:
        return {"published_accuracy": None, "published_loss": None, "published_minutes": None}
    minutes = None if published.hours is None else 60 * published.hours
    return {"published_accuracy": published.accuracy, "published_loss": published.loss, "published_minutes": minutes}
