"""Two processes on one run, clocks that jump, and folders with names that nobody expects."""

import os
import shutil
from pathlib import Path

from train_commands import rows_without_times

from faults.processes import Bench, expect_clear, expect_same_run, run_in, updates_in
from faults.tally import Tally, expect

ODD_NAMES = {
    "spaces": "my pictures  of cats ",
    "newline": "two\nlines",
    "other letters": "фото 写真 ça",
    "quotes": 'it\'s "so" $HOME `x` #1',
    "brackets": "[0] {a: b}",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "very long": "/".join(["x" * 200] * 4),
}


def two_processes(tally: Tally, folder: Path, n: int) -> None:
    """The second is refused at once and changes nothing; the lock is gone with its owner, even by kill -9."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            first = bench.start(runs, "train.epochs=10000")
            first.wait_until(lambda runs=runs: updates_in(runs) >= 1)
            second = bench.start(runs, "train.epochs=10000")
            second.wait(60)
            expect_clear(second, 2, "another process")
            expect(first.poll() is None, first.output)
            first.kill()
            epoch = len(rows_without_times(run_in(runs))) if (run_in(runs) / "metrics.jsonl").is_file() else 0
            bench.finish(runs, f"train.epochs={epoch + 1}")


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
    """Pictures and classes under odd names, behind a link, or with an empty class: the run is right, or the mistake is named; `n` kinds."""
    bench = Bench(folder, per_class=1)
    runs = (folder / f"runs{i}" for i in range(100))
    for kind, name in list(ODD_NAMES.items())[:n]:
        with tally.attempt(kind):
            root = folder / name / "root"
            shutil.copytree(bench.data, root)
            for split in ("train", "val"):
                (root / split / "7").rename(root / split / name.rpartition("/")[2])
            picture = next((root / "train" / "8").iterdir())
            picture.rename(picture.with_name(f"{name.rpartition('/')[2]}.jpg"))
            link = folder / f"link to {kind}"  # an override is YAML, in which not all of these names can be written
            link.symlink_to(root, target_is_directory=True)
            expect_clear(bench.finish(out := next(runs), f"data.root={link}", "train.epochs=1"), 0)
            expect((run_in(out) / "summary.json").is_file(), "not finished")
    with tally.attempt("class folder without images"):
        root = folder / "empty"
        shutil.copytree(bench.data, root)
        shutil.rmtree(root / "train" / "3")
        (root / "train" / "3").mkdir()
        process = bench.start(out := next(runs), f"data.root={root}")
        process.wait()
        expect_clear(process, 2, f"{root}/train/3: class folder without images")
        expect(not out.exists(), "something was written")
