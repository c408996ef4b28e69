"""kill -9 at any moment, then the same command to the end; and again and again."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common.wandb_file import records, values
from faults.hooks import DYING
from faults.processes import EPOCHS, Bench, Process, expect_gone, expect_same_run, is_running, last_in, run_in, states_in, updates_in
from faults.tally import Lost, Tally, expect
from hw1.runs.checkpoint import load_newest

UPDATES = EPOCHS * 4  # 7 batches an epoch in windows of 2
LOST_BATCHES = 4  # two optimizer steps: the one that was being written when the next was done
WITHIN = "within a checkpoint's writing"


def kill_and_resume(tally: Tally, folder: Path, n: int, workers: int) -> None:
    """`n` runs, every other killed by the clock, the rest inside a file's writing, every fourth twice."""
    bench = Bench(folder)
    began = time.monotonic()
    bench.reference()
    duration = time.monotonic() - began
    settings = [f"data.num_workers={workers}"]
    for i in range(n):
        rng = random.Random(f"kill {workers} {i}")
        runs, log = folder / f"kill{i}", folder / f"kill{i}.log"
        where = rng.choice(DYING) if i % 2 else "clock"
        with tally.attempt(f"{where}, {workers} workers, number {i}"):
            kills = 2 if i % 4 == 3 else 1
            for _ in range(kills):
                _start_and_kill(bench, runs, settings, log, where, duration, rng)
                tally.seen[_moment(runs)] += 1
            bench.finish(runs, *settings, log_samples=[str(log)])
            expect_same_run(runs, bench.reference())
            expect_same_samples(log, folder / "reference.log", kills * LOST_BATCHES)
        shutil.rmtree(runs, ignore_errors=True)
    if n >= 8 and tally.seen[WITHIN] < n // 4:
        tally.losses.append(f"too few kills {WITHIN}: {dict(tally.seen)}")


def _start_and_kill(bench: Bench, runs: Path, settings: list[str], log: Path, where: str, duration: float, rng: random.Random) -> None:
    """Starts or continues the run and kills it; where that came too late, because it had ended, the same from where it was before."""
    calls = json.loads((bench.folder / "reference.calls").read_text())
    before, samples = bench.folder / "before", log.read_bytes() if log.exists() else b""
    if runs.exists():
        shutil.copytree(runs, before)
    for share in (1.0, 0.5, 0.25, 0.1, 0.05):
        hooks = {} if where == "clock" else {"die_at": [where, rng.randint(1, max(1, round(share * calls[where])))]}
        process = bench.start(runs, *settings, log_samples=[str(log)], **hooks)
        if where == "clock":
            time.sleep(rng.uniform(0, share * duration))
        else:
            process.wait_until(lambda: False)
        children = process.children()
        process.kill()
        expect_gone(children)
        if process.code == -signal.SIGKILL:
            break
        expect(process.code == 0, f"exit code {process.code}: {process.output}")
        shutil.rmtree(runs)
        if before.exists():
            shutil.copytree(before, runs)
        log.write_bytes(samples)
    else:
        raise Lost("every kill came too late")
    shutil.rmtree(before, ignore_errors=True)


def _moment(runs: Path) -> str:
    """When the kill came, by what it has left."""
    if any((run_in(runs) / "checkpoints").glob(".*.tmp")):
        return WITHIN
    return "after a checkpoint" if last_in(runs).is_file() else "before the first checkpoint"


def expect_same_samples(log: Path, reference: Path, most: int) -> None:
    """The same images in every batch, whenever it was done; no batch missing; no more done twice than is saved at once."""
    lines, wanted = log.read_text().splitlines(), reference.read_text().splitlines()
    expect(set(lines) == set(wanted), "other images in some batch")
    again = len(lines) - len(wanted)
    expect(again <= most, f"{again} batches were done again")


def wandb_goes_on(tally: Tally, folder: Path, n: int) -> None:
    """The curves of a killed run go on under the same id, with every epoch; one that is there twice is so with the same numbers."""
    bench = Bench(folder)
    for i in range(n):
        runs = folder / f"wandb{i}"
        with tally.attempt(f"number {i}"):
            updates = random.Random(f"wandb {i}").randrange(1, UPDATES)
            process = bench.start(runs, "log.wandb=offline")
            process.wait_until(lambda runs=runs, updates=updates: updates_in(runs) >= updates)
            children = process.children()
            process.kill()
            expect(process.code == -signal.SIGKILL, f"exit code {process.code}: {process.output}")
            expect_gone(children)
            bench.finish(runs, "log.wandb=offline")
            parts = sorted(run_in(runs).glob("wandb/offline-run-*"))
            ids = {part.name.rpartition("-")[2] for part in parts}
            expect(len(parts) == 2 and len(ids) == 1, f"parts {[part.name for part in parts]}")
            expect(ids == {load_newest(states_in(runs))[0]["wandb_id"]}, "another id in the checkpoint")
            expect_same_curves(parts, run_in(runs))


def expect_same_curves(parts: list[Path], run: Path) -> None:
    rows = {row["epoch"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    sent = []
    for part in parts:
        history = (values(record.history.item) for file in part.glob("*.wandb") for record in records(file) if record.HasField("history"))
        sent += [row for row in history if "val/loss" in row]
    expect({row["epoch"] for row in sent} == rows.keys(), f"epochs in wandb: {[row['epoch'] for row in sent]}")
    expect(all(row["val/loss"] == rows[row["epoch"]]["val_loss"] for row in sent), "other numbers in wandb")


def soak(tally: Tally, folder: Path, n: int) -> None:
    """One run that is killed `n` times, a moment after it has got further: memory and disk use stay what they were."""
    bench = Bench(folder, per_class=1)
    runs, memory, disk = folder / "soak", [], []
    for i in range(n):
        with tally.attempt(f"cycle {i}"):
            former = updates_in(runs)
            process = bench.start(runs, "train.epochs=10000")
            wait_for_updates(process, runs, former + 3)
            time.sleep(random.Random(f"soak {i}").uniform(0, 0.3))
            expect(is_running(process.pid), process.output)
            memory.append(_peak_memory(process))
            process.kill()
            files = [path for path in run_in(runs).rglob("*") if path.is_file()]
            lasting = [path for path in files if path.suffix != ".tmp"]  # the kill may leave what was being written, until the next start
            expect(len(files) - len(lasting) <= 2, "temporary files pile up")
            disk.append(sum(path.stat().st_blocks * 512 for path in lasting))
            expect(load_newest(states_in(runs))[0]["progress"]["updates"] >= former + 3, "lost steps")
    with tally.attempt("memory and disk use are flat"):
        third = max(1, n // 3)
        for name, values, most in (("memory", memory, 1.05), ("disk", disk, 1.05)):
            early, late = (sorted(part)[len(part) // 2] for part in (values[:third], values[-third:]))
            expect(late <= early * most, f"{name} grew from {early} to {late}")


def wait_for_updates(process: Process, runs: Path, updates: int) -> None:
    done: Callable[[], bool] = lambda: updates_in(runs) >= updates  # noqa: E731
    process.wait_until(done)
    expect(process.poll() is None, process.output)


def _peak_memory(process: Process) -> int:
    """Kilobytes of the process itself."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
