"""Finished runs -> one JSON file and a table of results: python -m benchmarks.accuracy RUN_DIR...

It trains nothing: every number is read from the run folders, with the recipe, versions and hardware that stand beside it there. Where the
runs are two recipes over the same seeds, it also prints how far apart they are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import hardware_name, result_path
from hw1.errors import UserError, run_command
from hw1.evaluation.significance import paired_t
from hw1.runs.folder import RunFolder
from hw1.utils.files import write_atomic

ENV_KEYS = (
    *("started", "hw1", "git", "python", "packages", "device", "cpu", "cpu_count"),
    *("num_train", "num_val", "num_classes", "fingerprint"),
)


def read_run(path: Path) -> dict[str, Any]:
    """Recipe, environment and epochs of a finished run. Raises `UserError` if the folder holds no run, or one that has not finished."""
    run = RunFolder.existing(path)
    if not run.summary.is_file():
        raise UserError(f"{path}: has not finished")
    env = json.loads(run.env.read_bytes())
    rows = run.read_metrics()
    recipe = run.read_recipe().model_dump(mode="json")
    for local in ("root", "generate"):  # where the data lay says nothing about the result
        recipe["data"].pop(local)
    recipe["model"]["weights"] = recipe["model"]["weights"] and Path(recipe["model"]["weights"]).name
    recipe["run"].pop("dir")
    return {
        "recipe": recipe,
        "env": {key: env[key] for key in ENV_KEYS if key in env},
        "summary": json.loads(run.summary.read_bytes()),
        "minutes": sum(row["seconds"] for row in rows) / 60,
        "epochs": rows,
    }


def to_markdown(runs: list[dict[str, Any]]) -> str:
    lines = ["| recipe | model | best val top-1 | last | epochs | minutes | hardware |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        recipe, model, rows = run["recipe"], run["recipe"]["model"], run["epochs"]
        start = "from scratch"
        if model["weights"] or model["pretrained"]:
            start = f"from `{model['weights']}`" if model["weights"] else "from ImageNet weights"
        cells = [
            f"`{recipe['run']['name']}`",
            f"{model['name']}, {recipe['aug']['size']} px, {start}",
            f"{run['summary']['best_top1']:.4f}",
            f"{rows[-1]['val_top1']:.4f}",
            str(len(rows)),
            f"{run['minutes']:.1f}",
            hardware_name(run["env"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(runs: list[dict[str, Any]]) -> str | None:
    """The second recipe's last accuracy minus the first one's, paired over seeds; None unless there are two recipes with the same seeds."""
    last: dict[str, dict[int, float]] = {}
    for run in runs:
        last.setdefault(run["recipe"]["run"]["name"], {})[run["recipe"]["seed"]] = run["epochs"][-1]["val_top1"]
    if len(last) != 2 or len({frozenset(seeds) for seeds in last.values()}) != 1:
        return None
    (first, one), (second, other) = last.items()
    found = paired_t([other[seed] - one[seed] for seed in sorted(one)])
    interval = (
        "" if found.low is None or found.high is None else f" (95% t interval {found.low:+.4f} to {found.high:+.4f}, p = {found.p:.2g})"
    )
    return f"`{second}` minus `{first}`, last epoch, {found.n} seeds: {found.mean:+.4f}{interval}"


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON file; default in benchmarks/results/, by hardware and date")
    args = parser.parse_args(argv)
    runs = [read_run(path) for path in args.runs]
    target = args.out or result_path("accuracy", runs[0]["env"] | {"started": max(run["env"]["started"] for run in runs)})
    write_atomic(target, (json.dumps(runs, indent=1) + "\n").encode())
    print("\n\n".join(part for part in (to_markdown(runs), difference(runs), str(target)) if part))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
