"""What averages buy: python -m benchmarks.averages RUN_DIR... [section.key=value ...], finished runs of some recipes over the same seeds.

Every run predicts its validation images plainly and with each `--tta` of `validate.py`; the seeds of a recipe are averaged as `--with`
does. Writes `results/averages_<hardware>_<date>.json` and prints its table.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.machine import describe_machine, hardware_name, result_path
from hw1.data.image_folder import find_split
from hw1.errors import UserError, run_command
from hw1.evaluation.calibration import measure
from hw1.evaluation.ensemble import Tta, mean_predictions
from hw1.evaluation.predictions import Predictions
from hw1.evaluation.predictor import load_predictor
from hw1.evaluation.significance import bootstrap_difference, mcnemar_exact
from hw1.runs.folder import RunFolder
from hw1.utils.files import write_atomic

VIEWS: dict[str, Tta | None] = {"none": None} | {tta: tta for tta in get_args(Tta)}


def predict(run: RunFolder, overrides: Sequence[str]) -> tuple[dict[str, Predictions], dict[str, float]]:
    """Predictions of the last weights with each kind of views, and the seconds of processor time that each took."""
    recipe = run.read_recipe(overrides)
    predictor = load_predictor(run, recipe, "last")
    images, _ = find_split("val", recipe.data, predictor.classes, recipe.seed)
    found, seconds = {}, {}
    for name, tta in VIEWS.items():
        started = time.process_time()
        found[name] = predictor.predict(images, desc=f"{run.path} {name}", tta=tta)
        seconds[name] = time.process_time() - started
    return found, seconds


def compare(runs: Sequence[dict[str, Predictions]]) -> dict[str, dict[str, Any]]:
    """The options, by name: top-1, its difference to the mean of the plain runs, McNemar's p of each plain run, ECE, runs used."""
    plain = _right([run["none"] for run in runs])
    rows = {}
    for name in VIEWS:
        single, mean = [run[name] for run in runs], mean_predictions([run[name] for run in runs])
        rows[name] = _row(single, plain)
        rows[f"{len(runs)} runs, {name}"] = _row([mean], plain)
    return rows


def _row(answers: Sequence[Predictions], plain: NDArray[np.bool_]) -> dict[str, Any]:
    right = _right(answers)
    paired = np.broadcast_to(right, plain.shape)
    difference = bootstrap_difference(plain, paired)
    return {
        "top1": float(right.mean()),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "mcnemar_p": [mcnemar_exact(one, other).p for one, other in zip(plain, paired, strict=True)],
        "ece": float(np.mean([measure(each.logits, each.labels)["ece"] for each in answers])),
    }


def _right(answers: Sequence[Predictions]) -> NDArray[np.bool_]:
    return np.stack([each.logits.argmax(1) == each.labels for each in answers])


def to_markdown(result: dict[str, Any]) -> str:
    heads = [f"`{name}`: top-1 | difference" for name in result["recipes"]]
    lines = [f"| option | {' | '.join(heads)} |", f"|{'---|' * (1 + 2 * len(heads))}"]
    for option in next(iter(result["recipes"].values())):
        cells = []
        for rows in result["recipes"].values():
            row = rows[option]
            cells += [
                f"{row['top1']:.4f}",
                "" if row["low"] is None else f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})",
            ]
        lines.append(f"| {option} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.averages", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR")
    args = parser.parse_args(argv)
    overrides = [text for text in args.runs if "=" in text]
    machine = describe_machine()
    recipes: dict[str, list[dict[str, Predictions]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in VIEWS}
    for path in (text for text in args.runs if "=" not in text):
        run = RunFolder.existing(path)
        found, taken = predict(run, overrides)
        recipes.setdefault(str(run.read_recipe().run.name), []).append(found)
        for name, value in taken.items():
            seconds[name].append(value)
    if len({len(runs) for runs in recipes.values()}) != 1:
        raise UserError(f"RUN_DIR: as many runs of each recipe, please; got {', '.join(f'{len(r)} of {n}' for n, r in recipes.items())}")
    result = {
        "hardware": hardware_name(machine),
        "machine": machine,
        "num_images": len(next(iter(recipes.values()))[0]["none"]),
        "runs_per_recipe": len(next(iter(recipes.values()))),
        "processor_seconds": {name: float(np.median(values)) for name, values in seconds.items()},
        "recipes": {name: compare(runs) for name, runs in recipes.items()},
    }
    target = result_path("averages", machine)
    write_atomic(target, (json.dumps(result, indent=1) + "\n").encode())
    print(f"{to_markdown(result)}\n\nprocessor seconds a run: {result['processor_seconds']}\n{target}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
