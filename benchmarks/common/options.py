"""The options that every benchmark with a result file has."""

import argparse
from pathlib import Path


def add_result_options(parser: argparse.ArgumentParser, *, has_plot: bool = False) -> None:
    """Add `--out` and `--markdown`."""
    beside = "the plot lies beside it; " if has_plot else ""
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the JSON file; {beside}default in benchmarks/results/")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="measure nothing: print the table of this JSON file")
