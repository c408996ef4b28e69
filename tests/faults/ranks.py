"""Three processes that train together: killed, all or one of them, and stopped, at any moment."""

import random
import shutil
import signal
import time
from pathlib import Path

from faults.processes import Bench, Process, expect_clear, expect_no_leftovers, expect_same_run, run_in
from faults.tally import Tally, expect

NUM = 3
SECONDS = 60.0


def kill_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """kill -9 of all, or of one, after which the others end by themselves; the same command ends with the same bits."""
    bench = Bench(folder, per_class=1)
    reference, duration = reference_of(bench)
    for i in range(n):
        rng, runs = random.Random(f"ranks {i}"), folder / f"kill{i}"
        victims = range(NUM) if i % 2 else [rng.randrange(NUM)]
        with tally.attempt(f"rank {', '.join(map(str, victims))}, number {i}"):
            processes = bench.start_ranks(NUM, runs)
            time.sleep(rng.uniform(0, duration))
            for rank in victims:
                processes[rank].send(signal.SIGKILL)
            codes = [process.wait(SECONDS) for process in processes]
            allowed = (3, -signal.SIGKILL, 0)  # 0: it was done before
            expect(all(code in allowed for code in codes), f"exit codes {codes}: {output_of(processes)}")
            bench.finish_ranks(NUM, runs)
            expect_same_run(runs, reference)
        shutil.rmtree(runs, ignore_errors=True)


def stop_and_resume(tally: Tally, folder: Path, n: int) -> None:
    """SIGTERM or SIGINT to all, as torchrun sends it, or to one: all end with its code, one tells of it, and the run goes on."""
    bench = Bench(folder, per_class=1)
    reference, duration = reference_of(bench)
    for i in range(n):
        rng, runs = random.Random(f"ranks {i}"), folder / f"stop{i}"
        signum = (signal.SIGTERM, signal.SIGINT)[i % 2]
        told = range(NUM) if i // 2 % 2 else [rng.randrange(NUM)]
        with tally.attempt(f"{signum.name} to rank {', '.join(map(str, told))}, number {i}"):
            processes = bench.start_ranks(NUM, runs)
            processes[0].wait_until(lambda runs=runs: run_in(runs).joinpath("samples.png").is_file())
            time.sleep(rng.uniform(0, duration / 2))
            for rank in told:
                processes[rank].send(signum)
            codes = [process.wait(SECONDS) for process in processes]
            if codes != [0] * NUM:  # else they were done before they were told
                expect(codes == [128 + signum] * NUM, f"exit codes {codes}: {output_of(processes)}")
                expect_clear(processes[0], 128 + signum, "the same command continues it")
                expect(not output_of(processes[1:]), output_of(processes[1:]))
            expect_no_leftovers(runs)
            bench.finish_ranks(NUM, runs)
            expect_same_run(runs, reference)
        shutil.rmtree(runs, ignore_errors=True)


def reference_of(bench: Bench) -> tuple[Path, float]:
    """`runs` of an undisturbed run, and the seconds that it took."""
    runs, began = bench.folder / "reference", time.monotonic()
    bench.finish_ranks(NUM, runs)
    return runs, time.monotonic() - began


def output_of(processes: list[Process]) -> str:
    return "".join(process.output for process in processes)
