"""Tables of variants and runs. Accuracies are fractions (0-1)."""

from collections.abc import Sequence

from hw1.ablate.variants import PAIRS, VARIANTS
from hw1.html.table import Column, Table
from hw1.report.pairing import data_differences, environment_differences, recipe_differences
from hw1.report.run_record import Collection, RunRecord
from hw1.report.seed_summary import RunMetrics, summarize_seeds

METRICS: RunMetrics = {
    "accuracy": lambda run: run.last["val_top1"],
    "best_accuracy": lambda run: run.best["val_top1"],
    "loss": lambda run: run.last["val_loss"],
    "best_loss": lambda run: run.best["val_loss"],
    "minutes": lambda run: run.minutes,
    "images_per_second": lambda run: run.images_per_second,
}
METRIC_COLUMNS = (
    Column("num_seeds", "seeds", 0),
    Column("accuracy", "accuracy, last epoch", 4, spread="accuracy_std"),
    Column("best_accuracy", "accuracy, best epoch", 4, spread="best_accuracy_std"),
    Column("loss", "loss, last epoch", 4, spread="loss_std"),
    Column("best_loss", "loss, best epoch", 4, spread="best_loss_std"),
    Column("minutes", "minutes", 1, spread="minutes_std"),
    Column("images_per_second", "train images/s", 0, spread="images_per_second_std"),
)
MAX_LINE = 400  # characters
SPREAD_NOTE = "± is the standard deviation over seeds; accuracy and loss are those of the validation images."


def variant_table(collection: Collection) -> Table:
    """Tabulate each variant that has a finished run: the report's variants in their order, then others."""
    names = dict.fromkeys([*VARIANTS, *(run.variant for run in collection.runs)])
    rows, notices = [], run_notices(collection.runs)
    for name in names:
        runs = collection.runs_of(name)
        if not runs:
            continue
        notices += shorten_lines(recipe_differences(runs))
        published = VARIANTS[name].published if name in VARIANTS else ()
        rows.append({
            "variant": name, "title": variant_title(name, runs), "pairs": " ".join(p.name for p in PAIRS if name in (p.without, p.with_)),
            **summarize_seeds(runs, METRICS), "published": " / ".join(f"{item.accuracy:.4f}" for item in published),
            "runs": " ".join(run_paths(runs)),
        })  # fmt: skip
    columns = [Column("variant", "variant"), Column("title", "what it is"), *METRIC_COLUMNS, Column("published", "published accuracy")]
    shown = [column for column in columns if column.key not in ("title", "published") or any(row[column.key] for row in rows)]
    note = SPREAD_NOTE
    if columns[-1] in shown:
        note += " Several published values: the report ran this configuration more than once, with different results."
    return Table("variants", "Variants", shown, rows, run_paths(collection.runs), notices, note)


def run_table(collection: Collection) -> Table:
    """Tabulate each finished run, with its code, data and hardware."""
    rows = [
        {
            "run": run.path, "variant": run.variant, "seed": run.seed, "model": run.recipe.model.name, "epochs": len(run.epochs),
            **{name: metric(run) for name, metric in METRICS.items()}, "best_epoch": run.best["epoch"],
            "num_images": len(run.files), "data": run.fingerprint, "code": run.code, "hardware": run.hardware,
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
    return Table("runs", "Finished runs", columns, rows, (), run_notices(collection.runs))


def absent_table(collection: Collection) -> Table:
    """Tabulate what is in no statistic: unfinished and damaged runs, copies, and seeds that only others of the report's variants have."""
    rows = [
        {
            "run": item.path, "status": item.status, "reason": item.reason, "epochs": len(item.epochs) or None,
            "accuracy": item.epochs[-1]["val_top1"] if item.epochs else None,
            "best_accuracy": max(epoch["val_top1"] for epoch in item.epochs) if item.epochs else None,
            "loss": item.epochs[-1]["val_loss"] if item.epochs else None,
        }
        for item in collection.left_out
    ]  # fmt: skip
    begun = {run.variant for run in collection.all_runs}
    for variant, seeds in collection.missing_seeds([name for name in VARIANTS if name in begun]).items():
        reason = f"no folder for seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        rows.append(
            {"run": variant, "status": "missing", "reason": reason, **dict.fromkeys(("epochs", "accuracy", "best_accuracy", "loss"))}
        )
    columns = (
        Column("run", "run"),
        Column("status", "status"),
        Column("reason", "why it is in no other table"),
        Column("epochs", "epochs", 0),
        Column("accuracy", "accuracy so far", 4),
        Column("best_accuracy", "best so far", 4),
        Column("loss", "loss so far", 4),
    )
    return Table("absent", "Left out and missing", columns, rows)


def run_notices(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line for each thing that keeps the runs from being compared, or qualifies it."""
    return shorten_lines(data_differences(runs) + environment_differences(runs))


def shorten_lines(lines: Sequence[str]) -> list[str]:
    """Cut lines that list hundreds of runs."""
    return [line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..." for line in lines]


def variant_title(variant: str, runs: Sequence[RunRecord] = ()) -> str:
    """Return the title of one of the report's variants, a backbone's that of its runs; empty for others."""
    if runs and any(pair.with_ == variant and pair.factor == ("model.name",) for pair in PAIRS):
        return runs[0].recipe.model.name
    return VARIANTS[variant].title if variant in VARIANTS else ""


def run_paths(runs: Sequence[RunRecord]) -> list[str]:
    """Return the paths of runs, each once."""
    return list(dict.fromkeys(run.path for run in runs))
