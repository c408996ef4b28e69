"""torchrun itself: stopped and continued, a process killed and started again, and two machines."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.processes import EPOCHS, Bench, expect_same_run, is_running, run_in, updates_in, wait_for
from helpers.paths import ROOT

from hw1.runs.checkpoint import load_state

pytestmark = pytest.mark.slow
DOCUMENT = ROOT / "docs" / "guide" / "several-gpus.md"


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


@pytest.mark.long
def test_a_killed_process_is_started_again_and_a_signal_stops_all(bench: Bench, tmp_path: Path) -> None:
    """The kill is of rank 1, the signal goes to torchrun; continued without it, what comes out are the bits of an undisturbed run."""
    runs, reference = tmp_path / "runs", tmp_path / "reference"
    launch = Torchrun(bench, runs, "train.epochs=1000", options=("--max-restarts", "1"))
    launch.wait_for_updates(1, runs)
    os.kill(launch.workers()[1], signal.SIGKILL)
    wait_for(lambda: "continues in epoch" in launch.output or launch.process.poll() is not None, 240.0, "not started again")
    launch.wait_for_updates(updates_in(runs) + 1, runs)
    workers = launch.workers()
    launch.process.send_signal(signal.SIGTERM)
    assert launch.process.wait(60) == 1
    assert launch.output.count("interrupted, saved at epoch") == 1
    assert launch.output.count("continues in epoch") == 1
    assert not any(map(is_running, workers.values()))
    epochs = f"train.epochs={updates_in(runs) // 2 + EPOCHS}"
    assert "continues in epoch" in bench.finish_ranks(2, runs, epochs)[0].output
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
    [commands] = re.findall(r"^```sh\n(ip netns.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
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
    [last] = (tmp_path / "runs").glob("debug/seed118/checkpoints/epoch*.pt")
    assert load_state(last)["num_processes"] == 2
    assert (run_in(tmp_path / "runs").parents[1] / "debug" / "seed118" / "summary.json").is_file()
