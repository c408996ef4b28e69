"""From a fresh checkout to a trained model, as a new user comes to it: python -m benchmarks.fresh_machine

Clones what is committed here into an empty folder with empty caches, and runs `make install` and `make run` there: seconds on the clock and
of processor time, and what the installation takes on the disk. The download is part of it, from whatever index pip or uv is set to, so
that its seconds say as much of the network as of the project. `UV_TORCH_BACKEND=cpu` and PIP_INDEX_URL reach the installer.

Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
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
from benchmarks.startup.watch import END, watch
from benchmarks.training.tables import table
from hw1.errors import UserError, run_command

ROOT = Path(__file__).parents[1]
LABELS = {
    f"install {END}": "make install",
    "run first line": "make run: its first line",
    "run first epoch": "make run: its first epoch",
    f"run {END}": "make run: to its end",
}


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fresh_machine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=ROOT, metavar="REPOSITORY", help="what is cloned; default this project")
    add_result_options(parser)
    args = parser.parse_args(argv)
    if args.markdown:
        print(markdown(read_result(args.markdown)))
        return
    if not (args.source / ".git").exists():
        raise UserError(f"--source: {args.source} is no git repository")
    settings = {"torch_backend": os.environ.get("UV_TORCH_BACKEND", "default")}
    file = ResultFile("fresh_machine", {}, settings, args.out, {"seconds": {}})
    with tempfile.TemporaryDirectory(prefix="fresh-machine-") as folder:
        measure(args.source.resolve(), Path(folder), file)
    file.finish()
    print(f"{markdown(file.content)}\n\n{file.path}")


def measure(source: Path, folder: Path, file: ResultFile) -> None:
    """Install and train in an empty folder, and keep the seconds."""
    checkout, caches = folder / "hw1", folder / "caches"
    subprocess.run(["git", "clone", "--quiet", source, checkout], check=True)
    env = {"XDG_CACHE_HOME": str(caches), "PIP_CACHE_DIR": str(caches / "pip"), "UV_CACHE_DIR": str(caches / "uv")}
    python = getattr(sys, "_base_executable", sys.executable)
    steps: dict[str, Mapping[str, bytes]] = {"install": {}, "run": {"first line": rb"(?m)^model: ", "first epoch": rb"(?m)^epoch 1/"}}
    for target, marks in steps.items():
        print(f"make {target} in {checkout}", file=sys.stderr, flush=True)
        found = watch(["make", target, f"PYTHON={python}"], marks, folder=checkout, env=env)
        for name, seconds in found.items():
            file.content["seconds"][f"{target} {name}"] = {key: round(value, 1) for key, value in seconds._asdict().items()}
        if target == "install":
            file.content["installed_mib"] = round(disk_mebibytes(checkout / ".venv"))
        file.save()


def disk_mebibytes(folder: Path) -> float:
    """Return what the files of a folder take on the disk, a file of several names once."""
    stats = {(stat.st_dev, stat.st_ino): stat for path in folder.rglob("*") if not path.is_symlink() and (stat := path.stat())}
    return sum(stat.st_blocks for stat in stats.values()) * 512 / 2**20


def markdown(result: dict[str, Any]) -> str:
    """Return the table of a result."""
    rows = [[LABELS[name], f"{each['wall']:.0f}", f"{each['processor']:.0f}"] for name, each in result["seconds"].items()]
    machine, installed = result["machine"], result.get("installed_mib", 0)
    where = f"{result['hardware']}, {machine['started'][:10]}, torch {machine['packages']['torch']}; {installed:,} MiB installed."
    return f"{table(['from a fresh checkout', 'seconds', 'of the processor'], rows)}\n\n{where}"


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
