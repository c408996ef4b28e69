"""Runs the long form of the fault injection, prints one table and writes it to `benchmarks/results/`: make torture

python -m faults [--only NAME ...] [--scale SHARE] [--jobs N]; exit code 1 where anything was lost.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.common.machine import describe_machine, hardware_name, result_path
from faults.list import FAULTS, try_fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[fault.name for fault in FAULTS], help="these kinds alone")
    parser.add_argument("--scale", type=float, default=1.0, help="share (0-1] of the tries; the table says so")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="kinds that are tried at the same time (2)")
    args = parser.parse_args()
    started, faults = time.monotonic(), [fault for fault in FAULTS if not args.only or fault.name in args.only]
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
            tries = [max(1, round(fault.long * args.scale)) for fault in faults]
            futures = [pool.submit(try_fault, fault.name, Path(folder) / fault.name, n) for fault, n in zip(faults, tries, strict=True)]
            for future in tqdm(as_completed(futures), total=len(futures), unit="fault", disable=None):
                _tell(future.result())
        rows = [future.result() for future in futures]
    env, minutes = describe_machine(), (time.monotonic() - started) / 60
    result = {"environment": env, "minutes": round(minutes, 1), "scale": args.scale, "faults": rows}
    print(_table(result))
    if not args.only and args.scale == 1:
        path = result_path("torture", env)
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(_table(result) + "\n")
        print(f"\n{path}")
    return int(any(row["losses"] for row in rows))


def _tell(row: dict[str, Any]) -> None:
    tqdm.write(f"{row['name']}: {row['survived']} of {row['tried']} in {row['seconds']:.0f} s {_text(row['seen'])}", file=sys.stderr)
    for loss in row["losses"]:
        tqdm.write(f"{row['name']}: LOST {loss}", file=sys.stderr)


def _table(result: dict[str, Any]) -> str:
    """Markdown: a row a fault, then where and when it was, what the attempts met with, and what could not be tried there."""
    rows, env = result["faults"], result["environment"]
    lines = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
    lines += [f"| {row['fault']} | {row['tried']} | {row['survived']} | {row['lost']} |" for row in rows]
    total = [sum(row[key] for row in rows) for key in ("tried", "survived", "lost")]
    lines.append("| **all** | {} | {} | {} |".format(*total))
    share = f", {result['scale']:g} of the tries" if result["scale"] != 1 else ""
    lines += ["", f"{hardware_name(env)}, {env['started'][:10]}, {result['minutes']:.0f} minutes{share}."]
    lines += [f"{row['fault']}: {_text(row['seen'])}." for row in rows if row["seen"]]
    lines += [f"Not tried here: {reason}." for reason in dict.fromkeys(reason for row in rows for reason in row["skipped"])]
    return "\n".join(lines)


def _text(seen: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in seen.items())


if __name__ == "__main__":
    sys.exit(main())
