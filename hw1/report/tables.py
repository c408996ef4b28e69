"""Runs and verdicts to tables. Accuracies are shares (0-1), differences are points (hundredths of accuracy)."""

from collections.abc import Sequence
from typing import Any

from hw1.ablate.variants import PAIRS, VARIANTS, Published
from hw1.html.table import Column, Table
from hw1.report.calibration_tables import calibration_pair_table, calibration_table
from hw1.report.collect import Collection, Measures, RunRecord, measured
from hw1.report.pairing import other_circumstances, other_material, other_recipes
from hw1.report.verdict import PairResult

Cells = dict[str, Any]

MEASURES: Measures = {
    "accuracy": lambda run: run.last["val_top1"],
    "best_accuracy": lambda run: run.best["val_top1"],
    "loss": lambda run: run.last["val_loss"],
    "best_loss": lambda run: run.best["val_loss"],
    "minutes": lambda run: run.minutes,
    "images_per_second": lambda run: run.images_per_second,
}
MEASURE_COLUMNS = (
    Column("num_seeds", "seeds", 0),
    Column("accuracy", "accuracy, last epoch", 4, spread="accuracy_std"),
    Column("best_accuracy", "accuracy, best epoch", 4, spread="best_accuracy_std"),
    Column("loss", "loss, last epoch", 4, spread="loss_std"),
    Column("best_loss", "loss, best epoch", 4, spread="best_loss_std"),
    Column("minutes", "minutes", 1, spread="minutes_std"),
    Column("images_per_second", "train images/s", 0, spread="images_per_second_std"),
)
SPREAD = "± is the standard deviation over seeds; accuracy and loss are those of the validation images."


def all_tables(collection: Collection, results: Sequence[PairResult]) -> list[Table]:
    """Every table of the report, in its order; those without a row are left out."""
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
    """The names of all tables that there can be."""
    return [
        "verdicts",
        *(f"pair_{pair.name}" for pair in PAIRS),
        "seeds",
        "variants",
        "calibration",
        "calibration_pairs",
        "published",
        "runs",
        "absent",
    ]


def verdict_table(results: Sequence[PairResult]) -> Table:
    """One row a pair: the difference at the last epoch, its intervals and tests, and what it would take."""
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
    runs = _once(run for result in results for run in result.matched.runs)
    notices = [f"{r.title}: {line}" for r in results if r.matched.runs for line in (*r.matched.obstacles, *r.matched.notices)]
    tested = sum(row["p"] is not None for row in rows)
    note = (
        "Last epoch, with minus without, same seeds on both sides. Better or worse: p < 0.05 in the paired t test over seeds after Holm's "
        f"correction for {tested} tested pair{'s' * (tested != 1)}. Seeds needed: for a chance of 80% to tell this difference at this "
        "spread. Images needed: the same for McNemar's test of one run of each. A dash: cannot be estimated, or more than 1,000 seeds or "
        "a million images."
    )
    return Table("verdicts", "Verdicts", columns, rows, _paths(runs), notices, note)


def _verdict_row(result: PairResult) -> Cells:
    row: Cells = {
        "pair": result.pair.name, "title": result.title, "without": result.pair.without, "with": result.pair.with_,
        "outcome": result.outcome, "sentence": result.sentence, "num_seeds": len(result.matched.seeds),
        **dict.fromkeys(("num_images", "difference_points", "seeds_std", "seeds_low", "seeds_high", "images_low", "images_high")),
        **dict.fromkeys(("p", "p_holm", "seeds_needed", "images_needed")),
    }  # fmt: skip
    if result.verdict:
        found = result.verdict.comparison
        over_seeds, over_images = found.over_seeds, found.over_images
        row |= {
            "num_images": found.num_images,
            "difference_points": 100 * over_seeds.mean,
            "seeds_std": _points(over_seeds.std),
            "seeds_low": _points(over_seeds.low),
            "seeds_high": _points(over_seeds.high),
            "images_low": _points(over_images.low),
            "images_high": _points(over_images.high),
            "p": over_seeds.p,
            "p_holm": result.verdict.p_adjusted,
            "seeds_needed": result.verdict.seeds_needed,
            "images_needed": found.images_needed,
        }
    return row


def pair_table(result: PairResult) -> Table:
    """The two variants of a pair over the seeds that both have, with the published values beside them."""
    pair, matched = result.pair, result.matched
    sides = ((pair.without, matched.without, pair.published_without), (pair.with_, matched.with_, pair.published_with))
    rows = [
        {"variant": name, "title": _title(name), **measured(runs, MEASURES), **_published(published), "runs": " ".join(_paths(runs))}
        for name, runs, published in sides
    ]
    columns = [Column("variant", "variant"), Column("title", "what it is"), *MEASURE_COLUMNS]
    if pair.published_without or pair.published_with:
        columns += [
            Column("published_accuracy", "published accuracy", 4),
            Column("published_loss", "published loss", 4),
            Column("published_minutes", "published minutes", 0),
        ]
    return Table(f"pair_{pair.name}", result.title, columns, rows, _paths(matched.runs), [*matched.obstacles, *matched.notices], SPREAD)


def seed_table(results: Sequence[PairResult]) -> Table:
    """One row for each pair and seed: McNemar's exact test of the two runs, never of several seeds together."""
    rows = []
    for result in (result for result in results if result.verdict):
        tests = result.verdict.comparison.mcnemar if result.verdict else ()
        for without, with_, test in zip(result.matched.without, result.matched.with_, tests, strict=True):
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
    note = "McNemar's exact test compares these two trained models on these images; it is silent on the recipes, and is not adjusted."
    paths = _paths(_once(run for result in results if result.verdict for run in result.matched.runs))
    return Table("seeds", "Seed by seed", columns, rows, paths, (), note)


def variant_table(collection: Collection) -> Table:
    """One row for each variant that has a finished run: the report's own in their order, then others."""
    known = [name for name in VARIANTS if collection.of(name)]
    names = [*known, *sorted({run.variant for run in collection.runs} - set(known))]
    rows, notices = [], other_material(collection.runs) + other_circumstances(collection.runs)
    for name in names:
        runs = collection.of(name)
        notices += other_recipes(runs)
        published = VARIANTS[name].published if name in VARIANTS else ()
        rows.append({
            "variant": name, "title": _title(name), "pairs": " ".join(p.name for p in PAIRS if name in (p.without, p.with_)),
            **measured(runs, MEASURES), "published": " / ".join(f"{item.accuracy:.4f}" for item in published),
            "runs": " ".join(_paths(runs)),
        })  # fmt: skip
    columns = (Column("variant", "variant"), Column("title", "what it is"), *MEASURE_COLUMNS, Column("published", "published accuracy"))
    note = f"{SPREAD} Several published values: the report ran this configuration more than once, with different results."
    return Table("variants", "Variants", columns, rows, _paths(collection.runs), notices, note)


def published_table(results: Sequence[PairResult]) -> Table:
    """What the published accuracies alone, one run each on 300 images, can and cannot say."""
    rows = []
    for result in results:
        if result.published:
            found = result.published.range
            rows.append({
                "pair": result.pair.name, "title": result.title, "num_images": found.num_images,
                "accuracy_without": result.pair.published_without.accuracy if result.pair.published_without else None,
                "accuracy_with": result.pair.published_with.accuracy if result.pair.published_with else None,
                "difference_points": 100 * found.interval.mean, "low": _points(found.interval.low), "high": _points(found.interval.high),
                "p_best": found.p_best, "p_independent": found.p_independent, "most_disagreements": found.most_disagreements,
                "smallest_best": _points(found.smallest_best), "smallest_independent": _points(found.smallest_independent),
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
        Column("smallest_best", "smallest difference that could tell, best case", 1),
        Column("smallest_independent", "the same, independent errors", 1),
    )
    note = (
        "The published numbers are the report's own, of its own data: one run each on 300 images, last epoch. Best case: no image is right "
        "only in the run that is worse. The report averaged over batches of 32 and a last one of 12, so that its counts of images are only "
        "known to a few. Differences in points."
    )
    return Table("published", "Published numbers", columns, rows, (), (), note)


def run_table(collection: Collection) -> Table:
    """One row for each finished run, with what it was made from."""
    rows = [
        {
            "run": run.path, "variant": run.variant, "seed": run.seed, "model": run.recipe.model.name, "epochs": len(run.rows),
            **{name: measure(run) for name, measure in MEASURES.items()}, "best_epoch": run.best["epoch"],
            "num_images": len(run.files), "data": run.data, "code": run.code, "hardware": run.hardware,
            "started": str(run.env.get("started", "")),
        }
        for run in collection.runs
    ]  # fmt: skip
    columns = (
        Column("run", "run"),
        Column("model", "model"),
        Column("epochs", "epochs", 0),
        Column("accuracy", "accuracy, last epoch", 4),
        Column("best_accuracy", "accuracy, best epoch", 4),
        Column("best_epoch", "best epoch", 0),
        Column("loss", "loss, last epoch", 4),
        Column("minutes", "minutes", 1),
        Column("images_per_second", "train images/s", 0),
        Column("code", "code"),
        Column("hardware", "hardware"),
        Column("started", "started (UTC)"),
    )
    notices = other_material(collection.runs) + other_circumstances(collection.runs)
    return Table("runs", "Finished runs", columns, rows, (), notices)


def absent_table(collection: Collection) -> Table:
    """What is in no statistic: damaged and unfinished runs, and those that were never started."""
    rows = [{"run": item.path, "status": item.status, "reason": item.reason} for item in collection.left_out]
    for variant, seeds in collection.missing(VARIANTS).items():
        absent = f"no folder for seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        rows.append({"run": variant, "status": "missing", "reason": absent})
    columns = (Column("run", "run"), Column("status", "status"), Column("reason", "why it is in no number above"))
    return Table("absent", "Left out and missing", columns, rows)


def _published(published: Published | None) -> Cells:
    if not published:
        return {"published_accuracy": None, "published_loss": None, "published_minutes": None}
    minutes = None if published.hours is None else 60 * published.hours
    return {"published_accuracy": published.accuracy, "published_loss": published.loss, "published_minutes": minutes}


def _title(variant: str) -> str:
    return VARIANTS[variant].title if variant in VARIANTS else ""


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _paths(runs: Sequence[RunRecord]) -> list[str]:
    return [run.path for run in runs]


def _once(runs: Any) -> list[RunRecord]:
    return list({run.path: run for run in runs}.values())
