"""Report on run folders with figures, tables and one HTML page: hw1 report RUNS_DIR --out DIR."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hw1.errors import UserError, run_command
from hw1.html.table import Table, to_csv, to_markdown
from hw1.report.collect import collect
from hw1.report.figures import NAMES, DrawnFigure, draw_all
from hw1.report.page import TITLE, render_report
from hw1.report.pair_results import PairResult, compare_pairs
from hw1.report.run_record import Collection
from hw1.report.run_tables import absent_table
from hw1.report.tables import all_tables, possible_tables
from hw1.tracking.wandb_tracker import log_report
from hw1.utils.console import say
from hw1.utils.files import replace_files
from hw1.utils.text import to_bytes

EXIT_CODES = "exit codes: 0 done, 2 no finished run or a mistake in the command, 3 the report could not be written"


def parse(argv: Sequence[str], prog: str = "python -m hw1.report") -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("runs_dir", metavar="RUNS_DIR", type=Path, help="folder of all runs, <variant>/seed<n>/; only read")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the report; an earlier report in it is replaced")
    parser.add_argument("--wandb", choices=("off", "online", "offline"), default="off", help="log tables and figures as one more run")
    return parser.parse_args(argv)


def main(argv: Sequence[str], prog: str = "python -m hw1.report") -> None:
    """Run the command."""
    args = parse(argv, prog)
    if args.out.resolve().is_relative_to(args.runs_dir.resolve()):
        raise UserError(f"--out {args.out}: lies in {args.runs_dir}, which is only read; choose a folder elsewhere")
    collection = collect(args.runs_dir)
    for row in absent_table(collection).rows:
        say(f"{args.runs_dir / row['run']}: {row['status']}: {row['reason']}")
    if not collection.runs:
        raise UserError(f"{args.runs_dir}: no finished run")
    results = compare_pairs(collection)
    tables = all_tables(collection, results)
    figures = draw_all(collection, results)
    write_report(args.out, collection, results, tables, figures)
    if args.wandb != "off":
        _log_to_wandb(args.out, args.wandb, collection, tables, figures)
    _print_summary(args.out, collection, results, figures)


def write_report(
    out: Path, collection: Collection, results: Sequence[PairResult], tables: Sequence[Table], figures: Sequence[DrawnFigure]
) -> None:
    """Write all files of the report, the page last; see `replace_files`.

    Figures and tables of an earlier report that this one does not have are removed.

    Raises:
        UserError: The folder cannot be made.
        RunError: A file cannot be written.
    """
    files = {f"{figure.name}.{kind}": data for figure in figures for kind, data in (("png", figure.png), ("svg", figure.svg)) if data}
    files |= {f"{table.name}.csv": to_bytes(to_csv(table)) for table in tables}
    files["tables.md"] = _markdown(tables).encode()
    files["report.html"] = render_report(out, collection, results, tables, figures).encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made: {error.strerror}") from None
    figure_files = [f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
    replace_files(out, files, [*figure_files, *(f"{name}.csv" for name in possible_tables())])


def _markdown(tables: Sequence[Table]) -> str:
    return f"## {TITLE}\n\n" + "\n".join(to_markdown(table) for table in tables)


def _log_to_wandb(out: Path, mode: str, collection: Collection, tables: Sequence[Table], figures: Sequence[DrawnFigure]) -> None:
    rows = {table.name: table.rows for table in tables}
    images = {figure.name: out / f"{figure.name}.png" for figure in figures if figure.png}
    log_report(collection.runs[0].recipe.log.model_copy(update={"wandb": mode}), out, rows, images)


def _print_summary(out: Path, collection: Collection, results: Sequence[PairResult], figures: Sequence[DrawnFigure]) -> None:
    for result in results:
        if result.matched.runs:
            print(f"{result.title}: {result.sentence}")
    drawn = sum(bool(figure.png) for figure in figures)
    print(f"{out / 'report.html'}: {len(collection.runs)} runs, {drawn} figures (fig*.png, .svg); tables.md and *.csv beside it")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
