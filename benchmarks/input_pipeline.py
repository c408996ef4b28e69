"""How fast training images are made, ours beside the peers', in one run: python -m benchmarks.input_pipeline

It reads the images in `$HW1_PHOTOS/train` and the larger ones in `--large` or `$HW1_PHOTOS_LARGE`, and draws images where they are
not given. One thread a process. Writes a JSON file and a plot, and prints its table; `--markdown FILE` prints that of a JSON file.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.options import add_result_options
from hw1.errors import run_command
from hw1.utils.files import write_atomic


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a first impression within a minute, not for publication")
    parser.add_argument("--large", type=Path, metavar="FOLDER", default=os.environ.get("HW1_PHOTOS_LARGE"), help="larger images")
    add_result_options(parser, has_plot=True)
    args = parser.parse_args(argv)

    from benchmarks.common.result_file import read_result
    from benchmarks.input.table import to_markdown

    if args.markdown:
        print(to_markdown(read_result(args.markdown)))
        return
    from benchmarks.common.machine import result_path
    from benchmarks.input.measure import QUICK, Amounts, measure
    from benchmarks.input.plot import plot_input_pipeline
    from hw1.plots.style import save_figure

    photos = Path(os.environ["HW1_PHOTOS"]) / "train" if os.environ.get("HW1_PHOTOS") else None
    result = measure(QUICK if args.quick else Amounts(), photos, args.large)
    target = args.out or result_path("input_pipeline", result["machine"])
    write_atomic(target, (json.dumps(result, indent=1) + "\n").encode())
    save_figure(plot_input_pipeline(result), target.with_suffix(".png"))
    print(f"{to_markdown(result)}\n\n{target}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
