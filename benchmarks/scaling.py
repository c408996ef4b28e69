"""How training grows with the number of processes: python -m benchmarks.scaling

Whole trainings by train.py, one process alone and several under torchrun, that take turns, on images drawn for it. Images/s are those of
their epochs but for the first. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from hw1.errors import RunError, run_command

ROOT = Path(__file__).parents[1]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N", help="default 1 2; the first is compared with")
    parser.add_argument("--model", default="resnet18_cbam")
    parser.add_argument("--size", type=int, default=96, help="height and width of the images, pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of all processes together")
    parser.add_argument("--per-class", type=int, default=5, help="training images of each of 100 classes")
    parser.add_argument("--epochs", type=int, default=3, help="of each training, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    settings = {name: getattr(args, name) for name in ("processes", "model", "size", "batch", "per_class", "epochs", "rounds")}
    file = ResultFile("scaling", {}, settings, args.out)
    rates: dict[int, list[float]] = {num: [] for num in args.processes}
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        turns = [(turn, num) for turn in range(args.rounds) for num in args.processes]
        for turn, num in tqdm(turns, unit="training", disable=None):
            rates[num] += train(num, Path(folder), f"turn{turn}-{num}", args)
            file.content["results"] = compare(rates)
            file.save()
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def train(num: int, folder: Path, name: str, args: argparse.Namespace) -> list[float]:
    """Images/s of each epoch but the first. Raises RunError, with what the training said, where it fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num)] if num > 1 else []
    settings = {
        "data.root": folder / "pictures",
        "data.generate": args.per_class,
        "data.batch_size": args.batch,
        "data.cache": "disk",
        "data.cache_dir": folder / "cache",
        "model.name": args.model,
        "model.pretrained": "false",
        "aug.size": args.size,
        "train.epochs": args.epochs,
        "run.dir": folder / "runs",
        "run.name": name,
    }
    command = [sys.executable, *launcher, str(ROOT / "train.py"), str(ROOT / "recipes/base.yaml")]
    done = subprocess.run([*command, *(f"{key}={value}" for key, value in settings.items())], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{num} processes: {done.stderr.strip()[-2000:]}")
    [rows] = (folder / "runs" / name).glob("seed*/metrics.jsonl")
    return [json.loads(line)["images_per_second"] for line in rows.read_text().splitlines()][1:]


def compare(rates: Mapping[int, Sequence[float]]) -> list[dict[str, Any]]:
    """One row a number of processes: median of its epochs, and how many times the first number's."""
    done = {num: values for num, values in rates.items() if values}
    first = median(next(iter(done.values())))
    return [
        {"processes": num, "images_per_second": list(values), "median": median(values), "ratio": median(values) / first}
        for num, values in done.items()
    ]


def table(result: Mapping[str, Any]) -> str:
    settings, rows = result["settings"], result["results"]
    lines = [f"| processes | images/s (range) | times {rows[0]['processes']} |", "|---|---|---|"]
    for row in rows:
        low, high = min(row["images_per_second"]), max(row["images_per_second"])
        lines.append(f"| {row['processes']} | {row['median']:.1f} ({low:.1f}-{high:.1f}) | {row['ratio']:.2f} |")
    machine = result["machine"]
    caption = (
        f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}: {settings['model']}, "
        f"{settings['size']} px, {settings['batch']} images a step in all; median of {len(rows[0]['images_per_second'])} epochs."
    )
    return "\n".join([*lines, "", caption])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
