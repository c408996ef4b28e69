"""How soon the commands answer, in seconds of processor time: python -m benchmarks.startup

The help, and mistakes that need neither torch nor data to be found. Each command is a new process, the least of several tries: what else
the machine does can only add to it. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from hw1.errors import RunError, run_command

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes" / "finetune.yaml")
COMMANDS: dict[str, tuple[list[str], int]] = {
    "hw1 --help": (["-m", "hw1", "--help"], 0),
    "train.py --help": (["train.py", "--help"], 0),
    "an unknown key": (["train.py", RECIPE, "trian.epochs=1"], 2),
    "a missing data folder": (["train.py", RECIPE, "data.root=missing"], 2),
    "a missing weights file": (["train.py", RECIPE, f"data.root={ROOT / 'recipes'}", "model.weights=missing.pth"], 2),
    "import torch, for comparison": (["-c", "import torch"], 0),
}
"""Arguments of Python in the checkout, and the exit code that is right."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tries", type=int, default=7, metavar="N", help="of each command (default: 7)")
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    args = parse(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    file = ResultFile("startup", {}, {"tries": args.tries}, args.out)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.tries):
        for name, (arguments, code) in COMMANDS.items():  # in turns, so that a machine that drifts drifts for all
            seconds[name].append(round(processor_seconds(arguments, code), 3))
        file.content["results"] = {name: {"seconds": values, "least": min(values)} for name, values in seconds.items()}
        file.save()
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def processor_seconds(arguments: Sequence[str], expected: int) -> float:
    """Return what a new process takes, user and system time together, with one thread.

    Raises:
        RunError: It ends with another exit code than `expected`.
    """
    with tempfile.TemporaryDirectory(prefix="startup-") as runs:
        command = [sys.executable, *arguments, *([f"run.dir={runs}"] if expected else [])]
        before = os.times()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        after = os.times()
    if done.returncode != expected:
        raise RunError(f"{' '.join(arguments)}: exit code {done.returncode}, not {expected}: {done.stderr.strip()[-500:]}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def table(result: Mapping[str, Any]) -> str:
    """Return the result as a table in Markdown."""
    lines = ["| command | processor seconds |", "|---|---|"]
    lines += [f"| {name} | {row['least']:.2f} |" for name, row in result["results"].items()]
    machine, tries = result["machine"], result["settings"]["tries"]
    caption = f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}: the least of {tries} tries."
    return "\n".join([*lines, "", caption])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
