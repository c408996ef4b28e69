"""Runs the long form of the fault injection, prints one table and writes it to `benchmarks/results/`: make torture

python -m faults [--only NAME ...] [--scale SHARE]; exit code 1 where anything was lost.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine import describe_machine, hardware_name, result_path
from faults.list import FAULTS, Fault
from faults.tally import Tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[fault.name for fault in FAULTS], help="these kinds alone")
    parser.add_argument("--scale", type=float, default=1.0, help="share (0-1] of the tries; the table says so")
    args = parser.parse_args()
    started, faults = time.monotonic(), [fault for fault in FAULTS if not args.only or fault.name in args.only]
    rows = []
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        bar = tqdm(faults, unit="fault", disable=None)
        for fault in bar:
            bar.set_postfix_str(fault.name)
            rows.append(_try(fault, Path(folder) / fault.name, max(1, round(fault.long * args.scale))))
            row = rows[-1]
            tqdm.write(f"{fault.name}: {row['survived']} of {row['tried']} in {row['seconds']:.0f} s {_text(row['seen'])}", file=sys.stderr)
            for loss in row["losses"]:
                tqdm.write(f"{fault.name}: LOST {loss}", file=sys.stderr)
    env, minutes = describe_machine(), (time.monotonic() - started) / 60
    result = {"environment": env, "minutes": round(minutes, 1), "scale": args.scale, "faults": rows}
    print(_table(result))
    if not args.only and args.scale == 1:
        path = result_path("torture", env)
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(_table(result) + "\n")
        print(f"\n{path}")
    return int(any(row["losses"] for row in rows))


def _try(fault: Fault, folder: Path, n: int) -> dict[str, Any]:
    """One row: an error that is no fault's is a loss too."""
    tally, started = Tally(fault.name), time.monotonic()
    folder.mkdir()
    try:
        fault.attempt(tally, folder, n)
    except Exception as error:
        tally.losses.append(f"could not be tried: {type(error).__name__}: {error}")
    counts = {"tried": tally.tried, "survived": tally.survived, "lost": len(tally.losses)}
    times = {"seconds": round(time.monotonic() - started, 1)}
    details = {"losses": tally.losses, "skipped": tally.skipped, "seen": dict(tally.seen)}
    return {"name": fault.name, "fault": fault.what, **counts, **details, **times}


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
