"""A disk that fills up or turns read-only under a run; mounted in a name space of its own, by the real command."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

from test_disk_full import MIB, checkpoints, on_a_disk

from faults.processes import Bench, expect_no_leftovers, last_in, run_in
from faults.tally import Tally, expect
from hw1.checkpoint import load_state


def can_mount(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0


def full_disk(tally: Tally, folder: Path, n: int) -> None:
    """A tmpfs with room for part of a checkpoint more: it stops, nothing that was there has changed, and with room it goes on."""
    _disks(tally, folder, n, is_full=True)


def read_only_disk(tally: Tally, folder: Path, n: int) -> None:
    _disks(tally, folder, n, is_full=False)


def _disks(tally: Tally, folder: Path, n: int, *, is_full: bool) -> None:
    if not can_mount(folder / "probe"):
        tally.skipped.append("file systems cannot be mounted here (it takes Linux and root)")
        return
    bench = Bench(folder, per_class=1)
    with open(bench.recipe, "a") as file:
        file.write("checkpoint: {every_steps: 1}\n")
    started = folder / "started"
    bench.finish(started, "train.epochs=1")
    before = checkpoints(started)
    used = sum(path.stat().st_size for path in started.rglob("*") if path.is_file())
    for i in range(n):
        with tally.attempt(f"number {i}"):
            disk, out = folder / "disk", folder / f"out{i}"
            disk.mkdir(exist_ok=True)
            room = (used + random.Random(f"disk {i}").randrange(len(before["last.pt"]))) // MIB + 1 if is_full else 200
            then = ":" if is_full else f"mount -o remount,ro {disk}"
            result = on_a_disk(disk, started, out, mebibytes=room, then=then, recipe=bench.recipe)
            code, message = (3, "No space left on device; free some space there") if is_full else (2, "Read-only file system")
            expect(result.returncode == code and message in result.stderr, f"exit code {result.returncode}: {result.stderr}")
            expect("Traceback" not in result.stderr, result.stderr)
            expect_no_leftovers(out)
            kept = checkpoints(out)
            expect(kept.keys() <= before.keys() | {"previous.pt", "best.safetensors"}, f"files: {sorted(kept)}")
            state = load_state(last_in(out))
            same = kept["last.pt"] == before["last.pt"] or kept.get("previous.pt") == before["last.pt"]
            expect(same or state["progress"]["updates"] > 4, "a checkpoint changed")
            if is_full:
                bench.finish(out, "train.epochs=2")
            expect((run_in(out) / "config.yaml").is_file(), "no run folder")
            shutil.rmtree(out)
