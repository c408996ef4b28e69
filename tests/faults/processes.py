"""Real training processes on a tiny recipe, started by `zygote`; what is asked of them and of the runs they leave."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from helpers.paths import ROOT
from helpers.train_commands import TIMES, assert_equal, rows_without_times, write_recipe

from faults.tally import expect
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.runs.checkpoint import load_state
from hw1.runs.folder import RunFolder

BATCHES_PER_EPOCH = 7  # 200 images in batches of 30
EPOCHS = 2


class Process:
    """One training; `output` is what it has printed so far."""

    def __init__(self, pid: int, out: Path) -> None:
        self.pid, self._out = pid, out
        self.code: int | None = None

    @property
    def output(self) -> str:
        return self._out.read_text(errors="replace")

    def poll(self) -> int | None:
        """Exit code, minus the signal that killed it, or None while it runs."""
        if self.code is None:
            self.code = _zygote().ask({"poll": self.pid})
        return self.code

    def wait(self, seconds: float = 240.0) -> int:
        wait_for(lambda: self.poll() is not None, seconds, "the process did not end")
        assert self.code is not None
        return self.code

    def send(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    def wait_until(self, condition: Callable[[], object], seconds: float = 240.0) -> None:
        """Until the condition holds or the process has ended."""
        wait_for(lambda: condition() or self.poll() is not None, seconds, "waited in vain")

    def children(self) -> list[int]:
        """The loader's processes."""
        return [int(pid) for task in Path(f"/proc/{self.pid}/task").glob("*/children") for pid in task.read_text().split()]


class Zygote:
    """The process of `zygote`, with the code of the checkout `root` and these modules imported. It ends with this one."""

    def __init__(self, root: Path = ROOT, imports: Sequence[str] = ()) -> None:
        path = os.pathsep.join([str(root), str(ROOT / "tests")])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote", *imports], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def _zygote() -> Zygote:
    return Zygote()


def start(out: Path, script: str, *argv: object, env: dict[str, str] | None = None, hooks: dict[str, list[Any]] | None = None) -> Process:
    """`python SCRIPT.py ARGUMENTS`, with its output in the file `out`."""
    order = {"script": script, "argv": [str(argument) for argument in argv], "out": str(out), "env": env or {}, "hooks": hooks or {}}
    return Process(_zygote().ask(order), out)


class Bench:
    """A folder with images and the tiny recipe, and a finished run of it that nothing has disturbed."""

    def __init__(self, folder: Path, per_class: int = 2) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "shapes"
        draw_shapes(self.data, per_class)
        self.recipe = write_recipe(folder, self.data)
        self._count = 0

    def start(self, runs: Path, *overrides: str, ranks: dict[str, str] | None = None, **hooks: list[Any]) -> Process:
        """Begins or continues the run in `runs`, with every optimizer step saved."""
        runs.parent.mkdir(parents=True, exist_ok=True)
        settings = [f"run.dir={json.dumps(str(runs))}", "checkpoint.every_steps=1", f"train.epochs={EPOCHS}"]
        return self.command("train", str(self.recipe), *settings, *overrides, ranks=ranks, **hooks)

    def command(self, script: str, *argv: str, ranks: dict[str, str] | None = None, **hooks: list[Any]) -> Process:
        """Any of the commands."""
        self._count += 1
        out = self.folder / f"out{self._count}.txt"
        env = {"XDG_CACHE_HOME": str(self.folder / "cache"), "WANDB_MODE": "offline", "WANDB_SILENT": "true", **(ranks or {})}
        return start(out, script, *argv, env=env, hooks=hooks)

    def start_ranks(self, num: int, runs: Path, *overrides: str, hooks: dict[int, dict[str, list[Any]]] | None = None) -> list[Process]:
        """As many processes that train together, as torchrun would start them; `hooks` by rank."""
        return [self.start(runs, *overrides, ranks=env, **(hooks or {}).get(rank, {})) for rank, env in enumerate(ranks_env(num))]

    def finish_ranks(self, num: int, runs: Path, *overrides: str) -> list[Process]:
        """The same, to the end, which is expected to be good."""
        processes = self.start_ranks(num, runs, *overrides)
        codes = [process.wait() for process in processes]
        expect(codes == [0] * num, f"exit codes {codes}: {' '.join(process.output for process in processes)}")
        return processes

    def finish(self, runs: Path, *overrides: str, **hooks: list[Any]) -> Process:
        """The same, to the end, which is expected to be good."""
        process = self.start(runs, *overrides, **hooks)
        expect(process.wait() == 0, f"exit code {process.code}: {process.output}")
        return process

    def reference(self) -> Path:
        """`runs` of the undisturbed run, whose samples are in `reference.log` and whose calls of each kind are in `reference.calls`."""
        runs = self.folder / "reference"
        if not (run_in(runs) / "summary.json").is_file():
            log, calls = (str(self.folder / name) for name in ("reference.log", "reference.calls"))
            self.finish(runs, log_samples=[log], count_calls=[calls])
        return runs


def ranks_env(num: int) -> list[dict[str, str]]:
    """What torchrun tells each of `num` processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    return [{name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()} for rank in range(num)]


def call_ranks(num: int, folder: Path, function: str, *arguments: str) -> None:
    """Calls a function of the tests, `module.name`, in as many processes that form a group; none may fail."""
    processes = []
    for rank, env in enumerate(ranks_env(num)):
        out = folder / f"rank{rank}.txt"
        order = {"call": function, "argv": arguments, "out": str(out), "env": env, "hooks": {}}
        processes.append(Process(_zygote().ask(order), out))
    codes = [process.wait() for process in processes]
    expect(codes == [0] * num, f"exit codes {codes}: {' '.join(process.output for process in processes)}")


def run_in(runs: Path) -> Path:
    return runs / "tiny" / "seed5"


def states_in(runs: Path) -> list[Path]:
    """The states of the run, the newest first."""
    return RunFolder(run_in(runs)).state_files()


def last_in(runs: Path) -> Path:
    """The newest state; a file that is not there where there is none."""
    return next(iter(states_in(runs)), run_in(runs) / "checkpoints" / "none.pt")


def updates_in(runs: Path) -> int:
    """Optimizer steps that are safe on disk."""
    while True:
        last = last_in(runs)
        try:
            return _updates(last, last.stat().st_mtime_ns)
        except (FileNotFoundError, UserError):  # the run has replaced it meanwhile
            if last_in(runs) == last:
                return 0


@lru_cache(1)
def _updates(last: Path, changed: int) -> int:
    return load_state(last)["progress"]["updates"]


def expect_same_run(runs: Path, other: Path) -> None:
    """Weights, optimizer, schedule, averages, random state and every row of metrics: to the bit."""
    state = load_state(last_in(runs))
    assert_equal_states(state, load_state(last_in(other)))
    expect(all(state[part] for part in ("model", "optimizer", "schedule", "ema", "progress")), "a part of the state is empty")
    rows, others = rows_without_times(run_in(runs)), rows_without_times(run_in(other))
    expect(rows == others, f"other metrics: {rows} and {others}")
    table = (run_in(runs) / "metrics.csv").read_text().splitlines()
    expect([line.partition(",")[0] for line in table] == ["epoch", *(str(row["epoch"]) for row in rows)], f"other rows: {table}")
    best, other_best = (run_in(r) / "checkpoints" / "best.safetensors" for r in (runs, other))
    expect(best.read_bytes() == other_best.read_bytes(), "other best weights")
    expect_no_leftovers(runs)


def assert_equal_states(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert_equal(a, b, but=(*TIMES, "wandb_id"))


def expect_no_leftovers(runs: Path) -> None:
    left = [path.name for path in run_in(runs).rglob(".*.tmp")]
    expect(not left, f"left behind: {left}")


def expect_clear(process: Process, code: int, *messages: str) -> None:
    """Ended with this exit code and these messages, and no traceback."""
    expect(process.code == code, f"exit code {process.code}, not {code}: {process.output}")
    for message in messages:
        expect(message in process.output, f"{message!r} is not in: {process.output}")
    expect("Traceback" not in process.output, process.output)


def expect_gone(pids: list[int], seconds: float = 30.0) -> None:
    wait_for(lambda: not any(is_running(pid) for pid in pids), seconds, f"processes {pids} are still there")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float, message: str) -> None:
    """Seconds in which this process was awake itself: a machine that is stopped, or busy with other things, is no loss."""
    awake, seen = 0.0, time.monotonic()
    while not condition():
        awake, seen = awake + min(time.monotonic() - seen, 1.0), time.monotonic()
        expect(awake < seconds, message)
        time.sleep(0.02)
