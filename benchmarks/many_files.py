"""How the start of a training and the audit grow with the number of files, up to 200,000: python -m benchmarks.many_files

For each size: seconds and peak memory of listing the class folders, of the check before a training (every file is decoded once), of the
digests of all files; the same again, when all of it is known; and what a training holds of each image from then on. Every measurement is a
process of its own. The files are names (hard links) of a few hundred photographs of HW1_PHOTOS, or of drawn images without that variable.
The audit is measured up to --audit files on images that are drawn for it, each another one: it would find the links to be copies. Growth is
time per file at the largest size over that at the smallest; from a cost that stands still on, 1 is linear.

Writes a JSON file, to which the same code with further sizes adds, and prints its tables; --markdown FILE prints those of a JSON file.
"""

import argparse
import gc
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, earlier_results, read_result
from benchmarks.input.images import draw_images
from hw1.config.load import load_recipe
from hw1.data.bad_images import check_images
from hw1.data.image_folder import open_training_data
from hw1.data.image_set import TrainingData
from hw1.errors import RunError, run_command

ROOT = Path(__file__).parents[1]
SIZES = (1000, 10_000, 50_000, 200_000)
NUM_CLASSES, NUM_SOURCES = 100, 400
PARTS = ("list", "check", "digests")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_files", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of files (default: 1000 to 200000)")
    parser.add_argument("--audit", type=int, default=10_000, metavar="N", help="largest size that is audited, too (default: 10000)")
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    args = parse(argv)
    if args.markdown:
        print(tables(read_result(args.markdown)))
        return
    images = "photographs" if os.environ.get("HW1_PHOTOS") else "drawn images"
    settings = {"audit": args.audit, "images": images}
    rows = earlier_results(args.out, settings).get("results", [])
    file = ResultFile("many_files", {}, settings, args.out, {"results": rows})
    for size in args.sizes:
        if all(row["files"] != size for row in rows):
            rows.append(measure(size, is_audited=size <= args.audit))
            file.save()
    file.finish()
    print(f"{tables(file.content)}\n\n{file.path}")


def measure(size: int, *, is_audited: bool) -> dict[str, Any]:
    """Measure everything at one size."""
    with tempfile.TemporaryDirectory(prefix="many-files-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # of the processes that are started for it
        link_images(folder, size)
        row: dict[str, Any] = {"files": size}
        row["first"] = in_process(start, folder / "images")
        row["again"] = in_process(start, folder / "images")
        row["held_bytes"] = in_process(held_bytes, folder / "images")
        if is_audited:
            draw_different(folder / "drawn", size)
            row["audit"] = audit(folder / "drawn", folder / "audit")
    return row


def link_images(folder: Path, size: int) -> None:
    """Make `images/` with class folders of hard links to copies of a few hundred images."""
    sources = [source.read_bytes() for source in _sources(folder)]
    for number, data in enumerate(sources):
        (folder / f"{number}.jpg").write_bytes(data)
    for number in range(NUM_CLASSES):
        (folder / f"images/class{number}").mkdir(parents=True)
    for number in range(size):
        os.link(folder / f"{number % len(sources)}.jpg", folder / f"images/class{number % NUM_CLASSES}/image_{number:06}.jpg")


def _sources(folder: Path) -> list[Path]:
    if photos := os.environ.get("HW1_PHOTOS"):
        return sorted(Path(photos, "train").glob("*/*"))[:NUM_SOURCES]
    drawn = draw_images(300, 245, 40, folder / "sources")
    return [drawn.images.path(index) for index in range(len(drawn.images))]


def draw_different(folder: Path, size: int) -> None:
    """Draw so many images of 96 x 72 pixels, none like another, into two class folders."""
    rng = np.random.default_rng(0)
    for number in range(2):
        (folder / f"class{number}").mkdir(parents=True)
    for number in range(size):
        image = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"class{number % 2}/{number}.jpg"), image)


def in_process(work: Callable[[Path], Any], root: Path) -> Any:
    """Return what a function returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, root).result()


def open_data(root: Path) -> Iterator[tuple[str, TrainingData]]:
    """Do what a training does with its files before it builds the model: yield each part's name, and the data, once it is done."""
    recipe = load_recipe("base", [f"data.root={root}", "data.val_fraction=0.1"])
    data = open_training_data(recipe.data, recipe.seed, None)
    yield "list", data
    train, val = check_images([data.train, data.val], "stop")
    yield "check", data
    data = TrainingData(train, val, data.classes)
    _ = data.fingerprint
    yield "digests", data


def start(root: Path) -> dict[str, Any]:
    """Return the seconds of each part on the clock, those of the processor in all, and the peak of memory that they add, MiB."""
    before, seconds = _status("VmRSS"), {}
    moment, used = time.perf_counter(), time.process_time()
    for part, _data in open_data(root):
        seconds[part] = round(time.perf_counter() - moment, 3)
        moment = time.perf_counter()
    return {"seconds": seconds, "processor": round(time.process_time() - used, 3), "peak_mib": round(_status("VmHWM") - before, 1)}


def held_bytes(root: Path) -> int:
    """Return the bytes that stay allocated when the data are open."""
    tracemalloc.start()
    data = [data for _, data in open_data(root)][-1]
    gc.collect()
    num = tracemalloc.get_traced_memory()[0]
    assert len(data.train)
    return num


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def audit(root: Path, out: Path) -> dict[str, float]:
    """Return seconds on the clock and the peak of memory of `hw1 audit`, MiB, its imports included."""
    moment = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "hw1", "audit", str(root), "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise RunError(f"hw1 audit: exit code {process.returncode}")
    return {"seconds": round(time.perf_counter() - moment, 2), "peak_mib": round(usage.ru_maxrss / 1024, 1)}


def growth(rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]) -> float:
    """Return how much more a file costs at the largest size than at the smallest one of at least 10,000, else of all."""
    chosen = [row for row in rows if row["files"] >= 10_000] or list(rows)
    first, last = (value(row) / float(row["files"]) for row in (chosen[0], chosen[-1]))
    return last / first


def tables(result: Mapping[str, Any]) -> str:
    """Return the result as a table in Markdown."""
    rows = result["results"]
    columns: dict[str, Callable[[Mapping[str, Any]], float]] = {}
    for run, words in (("first", ""), ("again", ", again")):
        columns |= {f"{part}{words}, s": lambda row, run=run, part=part: row[run]["seconds"][part] for part in PARTS}  # type: ignore[misc]
        columns |= {f"peak{words}, MiB": lambda row, run=run: row[run]["peak_mib"]}  # type: ignore[misc]
    columns |= {"held, MiB": lambda row: row["held_bytes"] / 2**20}
    audited = [row for row in rows if "audit" in row]
    lines = [f"| files | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    lines += [f"| {row['files']:,} | {' | '.join(f'{value(row):.2f}' for value in columns.values())} |" for row in rows]
    if len(rows) > 1:
        lines.append(f"| growth | {' | '.join(f'{growth(rows, value):.2f}' for value in columns.values())} |")
    if audited:
        lines += ["", "| files | `hw1 audit`, s | peak with imports, MiB |", "|---|---|---|"]
        lines += [f"| {row['files']:,} | {row['audit']['seconds']:.1f} | {row['audit']['peak_mib']:.0f} |" for row in audited]
    machine = result["machine"]
    caption = (
        f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}. {result['settings']['images']}; "
        "growth: per file at the largest size, over that at 10,000."
    )
    return "\n".join([*lines, "", caption])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
