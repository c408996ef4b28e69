"""Accuracy for minutes, beside fastai and timm's train.py: python -m benchmarks.accuracy.peers PHOTOS --weights FILE [--timm CHECKOUT]

The same photographs (train/ and val/), weights, image size and cores; every program in a process of its own, in turns, over the same
seeds. Ours is a shipped recipe with two lengths: one to reach the better peer in half of its minutes, one to be ahead at equal minutes.
fastai runs `fine_tune` with its own defaults; timm's train.py runs with AdamW, a cosine per step, the report's crop and jitter, and label
smoothing. fastai is imported from the caller's PYTHONPATH, timm's script is that of a checkout; a peer that is not there is left out.

What is finished is kept in the result file: the same command goes on where it was stopped.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, earlier_results, read_result
from benchmarks.training.timm_script import PROJECT, find_script, version_of
from hw1.errors import RunError, UserError, run_command
from hw1.evaluation.significance import paired_t, proportion_interval

SHARE_OF_MINUTES = 0.5
POINTS_AHEAD = 0.02


def ours(args: argparse.Namespace, seed: int, folder: Path, epochs: int) -> dict[str, Any]:
    """Train the recipe; return the figures of its last epoch."""
    words = [f"data.root={args.photos}", f"model.name={args.model}", f"model.weights={args.weights}", f"aug.size={args.size}"]
    words += [f"seed={seed}", f"train.epochs={epochs}", "run.name=ours", f"run.dir={folder}"]
    _run([sys.executable, PROJECT / "train.py", args.recipe, *words])
    rows = [json.loads(line) for line in (folder / f"ours/seed{seed}/metrics.jsonl").read_text().splitlines()]
    return {"top1": rows[-1]["val_top1"], "best": max(row["val_top1"] for row in rows)}


def fastai(args: argparse.Namespace, seed: int, folder: Path, epochs: int) -> dict[str, Any]:
    """Run `fine_tune(epochs)`: an epoch of the head alone, then so many of everything."""
    target = folder / "fastai.json"
    words = [args.photos, args.model, args.weights, args.size, epochs, seed, target]
    _run([sys.executable, "-m", "benchmarks.accuracy.fastai_fine_tune", *words])
    return dict(json.loads(target.read_text()))


def timm(args: argparse.Namespace, seed: int, folder: Path, epochs: int) -> dict[str, Any]:
    """Run the checkout's train.py; return the figures of its last epoch."""
    words: list[Any] = [
        "--data-dir",
        args.photos,
        "--train-split",
        "train",
        "--val-split",
        "val",
        "--num-classes",
        _num_classes(args.photos),
    ]
    words += ["--model", args.model, "--pretrained", "--pretrained-path", args.weights, "--img-size", args.size, "--crop-pct", 1.0]
    words += ["--device", "cpu", "--workers", 2, "--batch-size", 32, "--epochs", epochs, "--seed", seed, "--output", folder]
    words += ["--opt", "adamw", "--lr", 1e-3, "--weight-decay", 0.05, "--sched-on-updates", "--warmup-epochs", 1, "--min-lr", 1e-6]
    words += ["--smoothing", 0.1, "--scale", 0.8, 1.0, "--color-jitter", 0.2, "--checkpoint-hist", 1, "--experiment", "timm"]
    _run([sys.executable, find_script(args.timm), *words])
    with (folder / "timm/summary.csv").open() as file:
        rows = [float(row["eval_top1"]) / 100 for row in csv.DictReader(file)]
    return {"top1": rows[-1], "best": max(rows)}


def _run(command: Sequence[Any]) -> None:
    """Run a program to its end; its progress goes to stderr. Raises RunError where it fails."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))), "WANDB_MODE": "disabled"}
    done = subprocess.run(list(map(str, command)), env=env, stdout=sys.stderr)
    if done.returncode:
        raise RunError(f"{Path(str(command[1])).name} ended with {done.returncode}")


def _processor_seconds() -> float:
    """Return what all child processes that have ended took of the processor: beside other work it says more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _num_classes(photos: Path) -> int:
    return sum(entry.is_dir() for entry in (photos / "train").iterdir())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run every program with every seed that the result file lacks."""
    programs: list[tuple[str, Any, int]] = [("ours, half", ours, args.epochs[0]), ("ours, equal", ours, args.epochs[1])]
    if find_spec("fastai"):
        programs.append(("fastai", fastai, args.fastai_epochs))
    if args.timm:
        programs.append(("timm", timm, args.timm_epochs))
    settings = {
        "model": args.model, "weights": args.weights.name, "size": args.size, "recipe": args.recipe,
        "epochs": {name: epochs for name, _, epochs in programs},
        "timm": version_of(find_script(args.timm)) if args.timm else None,
        "num_val": sum(1 for _ in (args.photos / "val").glob("*/*")),
    }  # fmt: skip
    finished = earlier_results(args.out, settings).get("runs", [])
    result = ResultFile("peers", {}, settings, args.out, {"runs": finished})
    for seed in args.seeds:
        for name, function, epochs in programs:
            if any((run["program"], run["seed"]) == (name, seed) for run in finished):
                continue
            print(f"seed {seed}: {name}, {epochs} epochs", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                started, used = time.perf_counter(), _processor_seconds()
                found = function(args, seed, Path(folder), epochs)
                minutes = {"minutes": (time.perf_counter() - started) / 60, "processor_minutes": (_processor_seconds() - used) / 60}
                finished.append({"program": name, "seed": seed, **minutes, **found})
            result.save()
    result.content["checks"] = checks(finished)
    result.finish()
    print(f"{result.path}", file=sys.stderr)
    return result.content


def _figures(runs: Sequence[dict[str, Any]], program: str, key: str) -> list[float]:
    return [run[key] for run in sorted(runs, key=lambda run: run["seed"]) if run["program"] == program]


def checks(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is asked of ours beside the better peer, and whether it is met; empty without a peer."""
    peers = sorted({run["program"] for run in runs} - {"ours, half", "ours, equal"})
    if not peers:
        return []
    better = max(peers, key=lambda peer: np.mean(_figures(runs, peer, "top1")))
    top1 = np.array(_figures(runs, better, "top1"))

    def check(program: str, ahead: float, share: float) -> list[dict[str, Any]]:
        gain = paired_t(np.array(_figures(runs, program, "top1")) - top1)
        found: list[dict[str, Any]] = [
            {"what": f"{program}: top-1 minus {better}'s", "value": gain.mean, "low": gain.low, "high": gain.high, "needed": f">= {ahead}",
             "met": gain.mean >= ahead},
        ]  # fmt: skip
        for key in ("minutes", "processor_minutes"):
            ratio = float(np.mean(_figures(runs, program, key)) / np.mean(_figures(runs, better, key)))
            what = f"{program}: {key.replace('_', ' ')} over {better}'s"
            found.append({"what": what, "value": ratio, "needed": f"<= {share}", "met": ratio <= share})
        return found

    return check("ours, half", 0.0, SHARE_OF_MINUTES) + check("ours, equal", POINTS_AHEAD, 1.0)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the tables of a result file."""
    settings, runs = result["settings"], result["runs"]
    lines = [
        "| program | epochs | minutes | processor minutes | val top-1, last epoch (each seed) | mean | 95% of the first seed's images |",
        "|---|---|---|---|---|---|---|",
    ]
    for program, epochs in settings["epochs"].items():
        top1, minutes, processor = (_figures(runs, program, key) for key in ("top1", "minutes", "processor_minutes"))
        low, high = proportion_interval(round(top1[0] * settings["num_val"]), settings["num_val"])
        spent = f"{np.mean(minutes):.1f} | {np.mean(processor):.1f}"
        accuracy = f"{', '.join(f'{value:.4f}' for value in top1)} | {np.mean(top1):.4f} | {low:.3f}-{high:.3f}"
        lines.append(f"| {program} | {epochs} | {spent} | {accuracy} |")
    for item in result["checks"]:
        interval = f" ({item['low']:+.4f} to {item['high']:+.4f})" if item.get("low") is not None else ""
        lines.append(f"\n- {item['what']}: {item['value']:+.4f}{interval}, asked {item['needed']}: {'yes' if item['met'] else 'missed'}")
    where = f"{result['hardware']}, {result['machine']['started'][:10]}, FP32 unless the processor has bf16"
    return "\n".join(lines) + f"\n\n{settings['model']} from {settings['weights']}, {settings['size']} px; {where}."


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="?", type=Path, help="folder with train/ and val/")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of --model")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="timm's name; default %(default)s")
    parser.add_argument("--recipe", default="finetune", help="default %(default)s")
    parser.add_argument("--size", type=int, default=128, help="pixels; default %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--epochs", type=int, nargs=2, default=[3, 7], metavar="N", help="ours in half of the minutes, and in equal ones")
    parser.add_argument("--fastai-epochs", type=int, default=3, metavar="N", help="of fine_tune; default %(default)s")
    parser.add_argument("--timm-epochs", type=int, default=5, metavar="N", help="default %(default)s")
    parser.add_argument("--timm", type=Path, metavar="CHECKOUT", help="timm's repository, or its train.py")
    add_result_options(parser)
    args = parser.parse_args(argv)
    if args.markdown:
        print(to_markdown(read_result(args.markdown)))
        return
    if not args.photos or not args.weights:
        raise UserError("PHOTOS and --weights are needed")
    args.photos, args.weights = args.photos.resolve(), args.weights.resolve()
    print(to_markdown(measure(args)))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
