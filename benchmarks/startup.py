"""How soon the commands answer, in seconds of processor time and of wall time: python -m benchmarks.startup

The help, mistakes that need neither torch nor data to be found, and the prediction of one photo-sized image by a ResNet-50 at 224 pixels:
as an `.onnx` file and as a run folder. Each command is a new process with one thread, the least of several tries: what else the machine
does can only add to it. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from hw1.config.load import load_recipe
from hw1.errors import RunError, run_command
from hw1.export.__main__ import main as export
from hw1.models.factory import build_model
from hw1.models.resolve import resolve
from hw1.runs.checkpoint import save_weights
from hw1.runs.folder import RunFolder
from hw1.runs.status import start_folder

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes" / "finetune.yaml")
COMMANDS: dict[str, tuple[list[str], int]] = {
    "hw1 --help": (["-m", "hw1", "--help"], 0),
    "train.py --help": (["train.py", "--help"], 0),
    "an unknown key": (["train.py", RECIPE, "trian.epochs=1"], 2),
    "a missing data folder": (["train.py", RECIPE, "data.root=missing"], 2),
    "a missing weights file": (["train.py", RECIPE, f"data.root={ROOT / 'recipes'}", "model.weights=missing.pth"], 2),
    "import torch, for comparison": (["-c", "import torch"], 0),
    "hw1 predict, one image, ONNX": (["-m", "hw1", "predict", "{export}/model.onnx", "{export}/image.jpg"], 0),
    "hw1 predict, one image, run folder": (["-m", "hw1", "predict", "{export}/..", "{export}/image.jpg", "--device", "cpu"], 0),
}
"""Arguments of Python in the checkout, and the exit code that is right; {export} is the folder of `make_export`."""


class Seconds(NamedTuple):
    """What a process takes: user and system time together, and time on the clock."""

    processor: float
    wall: float


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
    tries: dict[str, list[Seconds]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        export = make_export(Path(folder))
        for _ in range(args.tries):
            for name, (arguments, code) in COMMANDS.items():  # in turns, so that a machine that drifts drifts for all
                tries[name].append(measure([argument.format(export=export) for argument in arguments], code))
            file.content["results"] = {name: describe(values) for name, values in tries.items()}
            file.save()
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def make_export(folder: Path, model: str = "resnet50", size: int = 224) -> Path:
    """Make a run of an untrained model for 100 classes in `folder`; export it to ONNX, beside an image of 640 x 480 pixels."""
    recipe = load_recipe("base", [f"run.dir={folder}", f"model.name={model}", "model.pretrained=false", f"aug.size={size}"])
    recipe, _ = resolve(recipe)
    run = RunFolder.of(recipe)
    start_folder(run, recipe, fresh=True)
    network = build_model(recipe.model, 100, load_weights=False)
    meta = {"classes": list(map(str, range(100))), "epoch": 1, "val_top1": 0.01, "val_loss": 4.6}
    save_weights(run.best, network.state_dict(), meta)
    with contextlib.redirect_stdout(io.StringIO()):
        export([str(run.path), "--onnx"])
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(run.path / "export" / "image.jpg", quality=90)
    return run.path / "export"


def measure(arguments: Sequence[str], expected: int) -> Seconds:
    """Return what a new process takes, with one thread.

    Raises:
        RunError: It ends with another exit code than `expected`.
    """
    with tempfile.TemporaryDirectory(prefix="startup-") as runs:
        command = [sys.executable, *arguments, *([f"run.dir={runs}"] if expected else [])]
        before, start = os.times(), time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        wall, after = time.perf_counter() - start, os.times()
    if done.returncode != expected:
        raise RunError(f"{' '.join(arguments)}: exit code {done.returncode}, not {expected}: {done.stderr.strip()[-500:]}")
    return Seconds(after.children_user + after.children_system - before.children_user - before.children_system, wall)


def describe(tries: Sequence[Seconds]) -> dict[str, Any]:
    """Return what the JSON file holds of a command."""
    processor, wall = ([round(value, 3) for value in values] for values in zip(*tries, strict=True))
    return {"seconds": processor, "least": min(processor), "wall_seconds": wall, "least_wall": min(wall)}


def table(result: Mapping[str, Any]) -> str:
    """Return the result as a table in Markdown."""
    lines = ["| command | processor seconds | wall seconds |", "|---|---|---|"]
    lines += [f"| {name} | {row['least']:.2f} | {row['least_wall']:.2f} |" for name, row in result["results"].items()]
    machine, tries = result["machine"], result["settings"]["tries"]
    caption = f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}: the least of {tries} tries."
    return "\n".join([*lines, "", caption])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
