"""Two processes on one run, clocks that jump, and folders with names that nobody expects."""

import csv
import json
import os
import shutil
from pathlib import Path

from faults.processes import Bench, expect_clear, expect_same_run, run_in, updates_in
from faults.tally import Tally, expect
from hw1.utils.text import csv_cell

ODD_NAMES = {
    "spaces": "my images  of cats ",
    "newline": "two\nlines",
    "other letters": "фото 写真 ça",
    "quotes": 'it\'s "so" $HOME `x` #1',
    "brackets": "[0] {a: b}",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "very long": "/".join(["x" * 200] * 4),
}
IN_NO_RECIPE = ("newline", "not UTF-8")


def two_processes(tally: Tally, folder: Path, n: int) -> None:
    """The second is refused at once, before it looks at the data, and changes nothing; the lock is gone with its owner, even by kill -9.

    Every other time both begin at the same moment, and one of the two trains.
    """
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            first = bench.start(runs)
            if i % 2:
                second = bench.start(runs)
                first.wait_until(lambda second=second: second.poll() is not None)
                if second.poll() is None:
                    first, second = second, first
            else:
                first.wait_until(lambda runs=runs: updates_in(runs) >= 1)
                second = bench.start(runs, "data.root=nowhere")
            second.wait(60)
            expect_clear(second, 2, "another process")
            expect(first.poll() is None, first.output)
            first.kill()
            bench.finish(runs)
            expect_same_run(runs, bench.reference())


def jumping_clock(tally: Tally, folder: Path, n: int) -> None:
    """The wall clock jumps by a year at every look, and the data's dates lie in the future: the same run, to the bit."""
    bench = Bench(folder)
    bench.reference()
    for i in range(n):
        with tally.attempt(f"number {i}"):
            for path in (bench.data / "train").rglob("*.jpg"):
                os.utime(path, (4e9 + i, 4e9 + i))
            runs = folder / f"runs{i}"
            process = bench.start(runs, clock_shift=[3.15e7 * (i + 1)])
            process.wait_until(lambda runs=runs: updates_in(runs) >= 2)
            process.kill()
            bench.finish(runs, clock_shift=[-3.15e7])
            expect_same_run(runs, bench.reference())


def odd_places(tally: Tally, folder: Path, n: int) -> None:
    """Images, classes and runs under odd names (`n` kinds), data behind a link, an empty class: it is right, or the mistake is named."""
    bench = Bench(folder, per_class=1)
    for kind, name in list(ODD_NAMES.items())[:n]:
        with tally.attempt(kind):
            root, last = folder / name / "root", name.rpartition("/")[2]
            shutil.copytree(bench.data, root)
            for split in ("train", "val"):
                (root / split / "7").rename(root / split / last)
            for images in (root / "train" / "8", root / "test"):
                image = min(images.iterdir())
                image.rename(image.with_name(f"{last}.jpg"))
            link = folder / f"link to {kind}"  # an override is YAML, in which not all of these names can be written
            link.symlink_to(root, target_is_directory=True)
            runs = folder / f"runs {kind}" / (name if kind not in IN_NO_RECIPE else "runs")
            expect_clear(bench.finish(runs, f"data.root={link}", "train.epochs=1"), 0)
            expect((run_in(runs) / "summary.json").is_file(), "not finished")
            process = bench.command("validate", str(run_in(runs)), "--split", "test")
            expect(process.wait() == 0, process.output)
            with open(run_in(runs) / "eval" / "test" / "prediction.csv", newline="", errors="surrogateescape") as file:
                rows = {row["image_name"]: row["pred_label"] for row in csv.DictReader(file)}
            expect(csv_cell(last) in rows, f"{last!r} is not among {len(rows)} predictions")
            expect(len(rows) == sum(1 for _ in (root / "test").iterdir()), f"{len(rows)} predictions")
            for command in (("validate", str(run_in(runs))), ("hw1.audit.__main__", str(link), "--out", str(folder / f"audit {kind}"))):
                process = bench.command(*command)
                expect(process.wait() == 0, process.output)
    for kind in IN_NO_RECIPE[:n]:
        with tally.attempt(f"run.dir: {kind}"):
            process = bench.command("train", str(bench.recipe), f"run.dir={json.dumps(ODD_NAMES[kind])}")
            process.wait()
            expect_clear(process, 2, "run.dir: ")
    for what, setting in (("folder", "run.dir"), ("data", "data.root")):
        with tally.attempt(f"a path of 6,000 characters, {what}"):
            process = bench.command("train", str(bench.recipe), f"run.dir={folder}/none", f"{setting}={folder}{'/y' * 3000}")
            process.wait()
            expect_clear(process, 2, "/y/y/y")
    with tally.attempt("class folder without images"):
        root, out = folder / "empty", folder / "runs of none"
        shutil.copytree(bench.data, root)
        shutil.rmtree(root / "train" / "3")
        (root / "train" / "3").mkdir()
        process = bench.start(out, f"data.root={root}")
        process.wait()
        expect_clear(process, 2, f"{root}/train/3: class folder without images")
        expect(not out.exists(), "something was written")
