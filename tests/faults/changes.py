"""Runs that are continued with other data, another model or another batch: refused with the difference, unless that is overridden."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from faults.processes import Bench, expect_clear, expect_same_run, run_in, updates_in
from faults.tally import Tally, expect


def _rename_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "7").rename(root / split / "seven")


def _add_class(root: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / split / "99", root / split / "100")


def _add_image(root: Path) -> None:
    shutil.copy(next((root / "train" / "8").iterdir()), root / "train" / "8" / "more.jpg")


def _remove_image(root: Path) -> None:
    next((root / "train" / "8").iterdir()).unlink()


def _change_image(root: Path) -> None:
    shutil.copy(next((root / "train" / "9").iterdir()), next((root / "train" / "8").iterdir()))


DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "class renamed": (_rename_class, "other classes than those in {root} (100 then, 100 now; gone '7'; new 'seven')"),
    "class added": (_add_class, "other classes than those in {root} (100 then, 101 now; new '100')"),
    "image added": (_add_image, "the images in {root} have changed since (200 + 100 then, 201 + 100 now)"),
    "image removed": (_remove_image, "the images in {root} have changed since (200 + 100 then, 199 + 100 now)"),
    "image changed": (_change_image, "the images in {root} have changed since (200 + 100 then, 200 + 100 now)"),
}
SETTINGS = {
    "data.batch_size=15": "made with another recipe: data.batch_size: 30 -> 15",
    "train.grad_accum=1": "made with another recipe: train.grad_accum: 2 -> 1",
    "model.name=resnet50_cbam": 'made with another recipe: model.name: "resnet18_half_cbam" -> "resnet50_cbam"',
    "model.cbam_stages=[]": "made with another recipe: model.cbam_stages: [4] -> []",
    "model.num_classes=101": "made with another recipe: model.num_classes: null -> 101",
}


def changed_runs(tally: Tally, folder: Path, n: int) -> None:
    """`n` killed runs: each change is refused and leaves every file as it is; what overrides it works; unchanged the run goes on."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"runs{i}"
        process = bench.start(runs)
        process.wait_until(lambda runs=runs, i=i: updates_in(runs) >= 2 + i)
        process.kill()
        before = _hashes(run_in(runs))
        for kind, (change, message) in DATA.items():
            root = folder / "changed"
            with tally.attempt(f"{kind}, {i}"):
                shutil.copytree(bench.data, root)
                change(root)
                _expect_refused(bench, runs, before, message.format(root=root), "run.name=NAME", f"data.root={root}")
            shutil.rmtree(root)
        for setting, message in SETTINGS.items():
            with tally.attempt(f"{setting}, {i}"):
                _expect_refused(bench, runs, before, message, "--overwrite starts this one over", setting)
        with tally.attempt(f"another name, {i}"):
            bench.finish(runs, "data.batch_size=15", "run.name=other")
            expect(_hashes(run_in(runs)) == before, "the run has changed")
        with tally.attempt(f"--overwrite, {i}"):
            copy = folder / f"copy{i}"
            shutil.copytree(runs, copy)
            bench.finish(copy, "data.batch_size=15", "--overwrite")
            expect("batch_size: 15" in (run_in(copy) / "config.yaml").read_text(), "not started over")
        with tally.attempt(f"unchanged, {i}"):
            bench.finish(runs)
            expect_same_run(runs, bench.reference())


def _expect_refused(bench: Bench, runs: Path, before: dict[str, str], *messages: str) -> None:
    *messages, override = messages
    process = bench.start(runs, override)
    process.wait()
    expect_clear(process, 2, *messages)
    expect(_hashes(run_in(runs)) == before, "the run has changed")


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
