"""A disk that is full, fills up or turns read-only under a run; mounted in a name space of its own, by the real command."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.small_disks import MIB, checkpoints, on_a_disk, once_saved, read_only

from faults.processes import Bench, expect_no_leftovers, expect_same_run, last_in, states_in
from faults.tally import Tally, expect
from hw1.runs.checkpoint import load_state, load_weights

FULL = "No space left on device; free some space there, then the same command continues"
READ_ONLY = "Read-only file system"
UPDATES = 2  # of an epoch: four batches in windows of two


def can_mount(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0


def full_disk(tally: Tally, folder: Path, n: int) -> None:
    """A tmpfs with room for a part of a checkpoint more, or one that somebody else fills up once the run has saved there."""
    _disks(tally, folder, n, is_full=True)


def read_only_disk(tally: Tally, folder: Path, n: int) -> None:
    """Read-only from the start, or once the run has saved there, as Linux makes a disk that fails."""
    _disks(tally, folder, n, is_full=False)


def _disks(tally: Tally, folder: Path, n: int, *, is_full: bool) -> None:
    """It stops with a clear message and leaves nothing half; what was there has not changed; with room the same run comes of it."""
    if not can_mount(folder / "probe"):
        tally.skipped.append("file systems cannot be mounted here (it takes Linux and root)")
        return
    bench = Bench(folder, per_class=1)
    with open(bench.recipe, "a") as file:
        file.write("checkpoint: {every_steps: 1}\n")
    started = folder / "started"
    bench.finish(started, "train.epochs=1")
    before = checkpoints(started)
    for i in range(n):
        at_once = i % 2 == 0
        with tally.attempt(f"number {i}, {'from the start' if at_once else 'under the run'}"):
            disk, out = folder / "disk", folder / f"out{i}"
            disk.mkdir(exist_ok=True)
            whole, room, then = max(map(len, before.values())), 100 * MIB, ":"
            if is_full:
                room = random.Random(f"disk {i}").randrange(whole - MIB // 4) if at_once else 3 * whole
                then = ":" if at_once else once_saved(disk, f"head -c 1G /dev/zero > {disk}/filler")
            else:
                then = f"mount -o remount,ro {disk}" if at_once else once_saved(disk, read_only(last_in(disk / "runs").parent))
            result = on_a_disk(disk, started, out, room=room, then=then, recipe=bench.recipe, epochs=2)
            code, message = (2, READ_ONLY) if at_once and not is_full else (3, FULL if is_full else READ_ONLY)
            expect(result.returncode == code and message in result.stderr, f"exit code {result.returncode}: {result.stderr}")
            expect("Traceback" not in result.stderr, result.stderr)
            expect_no_leftovers(out)
            kept = checkpoints(out)
            if at_once:
                expect(kept == before, f"checkpoints changed: {sorted(kept)}")
            else:
                updates = [load_state(path)["progress"]["updates"] for path in reversed(states_in(out))]
                expect(updates[0] >= UPDATES and updates[1] > updates[0], f"updates {updates}")
                load_weights(last_in(out).with_name("best.safetensors"))
            bench.finish(out, "train.epochs=2")
            expect_same_run(out, bench.reference())
            shutil.rmtree(out)
