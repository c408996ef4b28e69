"""How soon every command answers, beside timm's scripts and ultralytics' command: python -m benchmarks.startup

Seconds on the clock and of processor time from the start of a new process with one thread: to the first line that every command of ours
shows and to its end; to the first finished step of a training; to the first prediction. The same images and model for all, on the CPU,
without published weights and with one loader process. Programs are not changed for it: what they print tells how far they are
(benchmarks/startup/programs.py and peers.py say which words). The least of several tries counts: what else the machine does can only add
to it. With HW1_PHOTOS the images are links to some of its photographs, else they are drawn.

With --work the small runs, checkpoints and caches are kept in a folder: `--tries 0` makes them, and the same command with a larger number
adds the tries that the result file lacks. Writes a JSON file and prints its tables; --markdown FILE prints those of a JSON file.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, earlier_results, read_result
from benchmarks.startup.peers import timm_programs, ultralytics_programs, versions
from benchmarks.startup.programs import BATCH, MODEL, SIZE, Program, commands, first_prediction, first_step, prepare, variables
from benchmarks.startup.tables import tables
from benchmarks.startup.watch import watch
from hw1.errors import UserError, run_command


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tries", type=int, default=3, metavar="N", help="of each command (default: 3)")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="commands whose name has this in it (repeatable)")
    parser.add_argument("--timm", type=Path, metavar="CHECKOUT", help="of timm's repository: also its train.py and inference.py")
    parser.add_argument("--ultralytics", type=Path, metavar="FOLDER", help="that pip has installed ultralytics to (--target)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the small runs here; default: a temporary folder")
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    args = parse(argv)
    if args.markdown:
        print(tables(read_result(args.markdown)))
        return
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        work = (args.work or Path(folder)).resolve()
        prepare(work)
        measure(args, work)


def measure(args: argparse.Namespace, work: Path) -> None:
    """Measure what the result file lacks."""
    programs = choose(args, work)
    images = "photographs" if os.environ.get("HW1_PHOTOS") else "drawn images"
    settings = {"model": MODEL, "size": SIZE, "batch": BATCH, "images": images, "peers": versions(args.timm, args.ultralytics)}
    results = earlier_results(args.out, settings).get("results", {})
    file = ResultFile("startup", {}, settings, args.out, {"results": results})
    for number in range(args.tries):
        for group, program in programs:  # in turns, so that a machine that drifts drifts for all
            row = results.setdefault(group, {}).setdefault(program.name, {})
            if all(len(mark["wall"]) <= number for mark in row.values()):
                add(row, program, work)
                file.save()
    if args.tries:
        file.finish()
    print(f"{tables(file.content)}\n\n{file.path}")


def choose(args: argparse.Namespace, work: Path) -> list[tuple[str, Program]]:
    """Return what is measured, with the table that it belongs to."""
    steps, predictions = [first_step(work)], first_prediction(work)
    for path, peer in ((args.timm, timm_programs), (args.ultralytics, ultralytics_programs)):
        if path:
            step, prediction = peer(work, path.resolve())
            steps.append(step)
            predictions.append(prediction)
    groups = {"commands": commands(work), "first_step": steps, "first_prediction": predictions}
    chosen = [(group, program) for group, programs in groups.items() for program in programs]
    if args.only:
        chosen = [(group, program) for group, program in chosen if any(text in program.name for text in args.only)]
    if not chosen:
        raise UserError(f"--only {args.only}: no such command")
    return chosen


def add(row: dict[str, Any], program: Program, work: Path) -> None:
    """Run a program once, and add its seconds to its row."""
    with tempfile.TemporaryDirectory(prefix="startup-") as new:
        found = watch(
            [word.replace("{new}", new) for word in program.command],
            program.marks,
            folder=program.folder,
            env=variables(work) | dict(program.env),
            exit_codes=program.exit_codes,
            stop_at=program.stop_at,
        )
    for name, seconds in found.items():
        mark = row.setdefault(name, {"wall": [], "processor": []})
        mark["wall"].append(round(seconds.wall, 3))
        mark["processor"].append(round(seconds.processor, 3))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
