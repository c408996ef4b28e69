"""torchrun itself: stopped and continued, a process killed and started again, and two machines."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from faults.processes import EPOCHS, Bench, expect_same_run, is_running, run_in, updates_in, wait_for

from hw1.checkpoint import load_state

DOCUMENT = ROOT / "docs" / "several_machines.md"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), per_class=1)


class Torchrun:
    """A launch of two processes."""

    def __init__(self, bench: Bench, runs: Path, *overrides: str, options: tuple[str, ...] = ()) -> None:
        self.log = bench.folder / f"{runs.name}.log"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
        settings = [f"run.dir={runs}", "checkpoint.every_steps=1", *overrides]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(bench.folder / "cache")}
        with open(self.log, "w") as log:
            command = [*launcher, str(ROOT / "train.py"), str(bench.recipe), *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=bench.folder)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def workers(self) -> dict[int, int]:
        """Process ids by rank."""
        children = [int(pid) for task in Path(f"/proc/{self.process.pid}/task").glob("*/children") for pid in task.read_text().split()]
        found = {}
        for pid in children:
            env = dict(item.partition("=")[::2] for item in Path(f"/proc/{pid}/environ").read_text().split("\0"))
            found[int(env["RANK"])] = pid
        return found

    def wait_for_updates(self, num: int, runs: Path) -> None:
        wait_for(lambda: updates_in(runs) >= num or self.process.poll() is not None, 240.0, "no progress")
        assert self.process.poll() is None, self.output


def test_stopped_then_continued_with_a_process_killed(bench: Bench, tmp_path: Path) -> None:
    """The signal goes to torchrun, the kill to rank 1; what comes out are the bits of an undisturbed run."""
    runs, reference = tmp_path / "runs", tmp_path / "reference"
    first = Torchrun(bench, runs, "train.epochs=1000")
    first.wait_for_updates(1, runs)
    workers = first.workers()
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) == 1
    assert first.output.count("interrupted, saved at epoch") == 1
    assert not any(map(is_running, workers.values()))
    stopped_at = updates_in(runs)
    epochs = f"train.epochs={stopped_at // 2 + EPOCHS}"
    second = Torchrun(bench, runs, epochs, options=("--max-restarts", "1"))
    second.wait_for_updates(stopped_at + 1, runs)
    os.kill(second.workers()[1], signal.SIGKILL)
    assert second.process.wait(240) == 0, second.output
    assert second.output.count("continues in epoch") == 2, second.output
    assert "best val top-1" in second.output
    bench.finish_ranks(2, reference, epochs)
    expect_same_run(runs, reference)


@pytest.fixture
def namespaces() -> Iterator[None]:
    def remove() -> None:
        for name in ("hw1-a", "hw1-b"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    try:
        remove()
        tried = subprocess.run(["ip", "netns", "add", "hw1-a"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no ip command (iproute2)")
    if tried.returncode:
        pytest.skip(f"no network namespaces here: {tried.stderr.strip()}")
    remove()
    yield
    remove()


@pytest.mark.usefixtures("namespaces")
def test_two_machines_as_documented(tmp_path: Path) -> None:
    [commands] = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    for name in ("train.py", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    (tmp_path / "bin" / "torchrun").chmod(0o755)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best val top-1") == 1
    assert "on 2 processes, each with cpu" in done.stderr
    [last] = (tmp_path / "runs").glob("debug/seed118/checkpoints/last.pt")
    assert len(load_state(last)["other_rngs"]) == 1
    assert (run_in(tmp_path / "runs").parents[1] / "debug" / "seed118" / "summary.json").is_file()
