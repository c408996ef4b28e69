"""Compare any runs in one HTML page, with figures and tables beside it: hw1 report RUNS... --out DIR."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hw1.errors import UserError, run_command
from hw1.html.table import to_csv, to_markdown
from hw1.report.collect import collect
from hw1.report.compare.baseline import TABLES as COMPARISON_TABLES
from hw1.report.compare.curves import PAPER_FIGURES
from hw1.report.content import Report, build_report
from hw1.report.figures import NAMES
from hw1.report.page import TITLE, render_report
from hw1.report.run_record import Collection
from hw1.report.run_tables import absent_table
from hw1.report.tables import possible_tables
from hw1.tracking.wandb_tracker import log_report
from hw1.utils.console import say
from hw1.utils.files import replace_files
from hw1.utils.text import counted, to_bytes

MAX_PRINTED = 24
"""Comparisons on the console; the page has all."""
EXIT_CODES = "exit codes: 0 done, 2 no run that can be read or a mistake in the command, 3 the report could not be written"


def parse(argv: Sequence[str], prog: str = "python -m hw1.report") -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("runs", metavar="RUNS", type=Path, nargs="+", help="run folders, and folders of run folders; only read")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("report"), help="folder for it, by default report; replaces an earlier one"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="compare all others with this one, p-values adjusted; by default the first, unadjusted"
    )
    parser.add_argument("--wandb", choices=("off", "online", "offline"), default="off", help="log tables and figures as one more run")
    return parser.parse_args(argv)


def main(argv: Sequence[str], prog: str = "python -m hw1.report") -> None:
    """Run the command."""
    args = parse(argv, prog)
    collection = collect(*args.runs)
    _check_out(args.out, args.runs, collection)
    if args.wandb != "off" and not collection.runs:
        raise UserError("--wandb: no run is finished, so that there is no recipe to log by")
    for row in absent_table(collection).rows:
        say(f"{collection.root / row['run']}: {row['status']}: {row['reason']}")
    report = build_report(collection, args.baseline)
    write_report(args.out, report)
    if args.wandb != "off":
        _log_to_wandb(args.out, args.wandb, report)
    _print_summary(args.out, report)


def write_report(out: Path, report: Report) -> None:
    """Write all files of the report, the page last; see `replace_files`.

    Figures and tables of an earlier report that this one does not have are removed.

    Raises:
        UserError: The folder cannot be made.
        RunError: A file cannot be written.
    """
    tables = list(report.tables.values())
    files = dict(report.curve_files)
    for figure in report.ablation.figures:
        files |= {f"{figure.name}.png": figure.png, f"{figure.name}.svg": figure.svg}
    files |= {f"{table.name}.csv": to_bytes(to_csv(table)) for table in tables}
    files["tables.md"] = f"## {TITLE}\n\n{chr(10).join(map(to_markdown, tables))}".encode()
    files["report.html"] = render_report(out, report).encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made: {error.strerror}") from None
    replace_files(out, files, former_files())


def former_files() -> list[str]:
    """Return the names of all files that a report can have beside its page."""
    figures = [f"{name}.{kind}" for name in (*NAMES, *PAPER_FIGURES) for kind in ("png", "svg")]
    return [*figures, *(f"{name}.csv" for name in (*possible_tables(), *COMPARISON_TABLES, "settings", "environments", "classes"))]


def _check_out(out: Path, named: Sequence[Path], collection: Collection) -> None:
    """Refuse to write into a run, or among the runs of a folder that is named and is not the working directory itself or above it."""
    place = out.resolve()
    runs = [run.folder for run in collection.all_runs]
    for folder in (*runs, *(path for path in named if not Path.cwd().is_relative_to(path.resolve()))):
        if place.is_relative_to(folder.resolve()):
            raise UserError(f"--out {out}: lies in {folder}, which is only read; choose a folder elsewhere")


def _log_to_wandb(out: Path, mode: str, report: Report) -> None:
    tables = {table.name: table.rows for table in report.tables.values()}
    names = [*(name for name in PAPER_FIGURES if f"{name}.png" in report.curve_files), *(figure.name for figure in report.ablation.figures)]
    images = {name: out / f"{name}.png" for name in names}
    log_report(report.collection.runs[0].recipe.log.model_copy(update={"wandb": mode}), out, tables, images)


def _print_summary(out: Path, report: Report) -> None:
    compared = [(result.pair.title, result) for result in report.comparisons.results[:MAX_PRINTED]]
    compared += [(result.title, result) for result in report.ablation.results]
    for title, result in compared:
        if result.matched.runs:
            print(f"{title}: {result.sentence}")
    for line in (report.comparisons.adjustment, report.ablation.missing):
        if line:
            print(line)
    left_out = len(report.collection.left_out)
    counts = f"{counted(len(report.collection.runs), 'finished run')}" + (f", {left_out} left out" if left_out else "")
    figures = len(report.curve_files) // 2 + len(report.ablation.figures)
    counts += f", {counted(len(report.variants), 'variant')}; {figures} figures (*.png, *.svg)"
    print(f"{out / 'report.html'}: {counts}, tables.md and *.csv beside it")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
