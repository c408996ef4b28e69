"""A project in which plans of runs are carried out in no time: by a stand-in for `hw1 train`, with the same run folders and no torch."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.paths import ROOT
from hw1.ablate import __main__ as ablate
from hw1.config.load import dump_recipe, load_recipe
from hw1.errors import run_command
from hw1.runs.status import NUMBERS

STAND_IN_FILE = Path("hw1/commands/train.py")
# Trains two epochs in no time, or does what the recipe's name says. Each start is a line in started.jsonl.
STAND_IN = """
import json, os, signal, sys, time
from hw1.utils.signals import StopRequest
from hw1.config.load import load_recipe
from hw1.runs.folder import RunFolder
from hw1.runs.status import NUMBERS, run_status, start_folder


def row(epoch):
    return dict.fromkeys(NUMBERS, 0.5) | {"epoch": epoch, "seconds": 60.0}

def main(argv, prog=None):
    recipe = load_recipe(argv[0], argv[1:])
    run = RunFolder.of(recipe)
    name, status = recipe.run.name, run_status(run, recipe)

    def note(**facts):
        cores = os.environ.get("HW1_CORES"), os.environ.get("OMP_NUM_THREADS")
        facts = {"name": name, "seed": recipe.seed, "pid": os.getpid(), "status": status, "argv": argv, "cores": cores, **facts}
        with open("started.jsonl", "a") as file:
            file.write(json.dumps(facts) + "\\n")

    if name == "deaf":  # as during its imports: SIGTERM ends it, SIGINT would be a traceback
        note()
        time.sleep(60)
    with StopRequest().listening() as stop:
        note()
        if name == "fails":
            sys.exit(3)
        if name == "wrong":
            sys.exit(2)
        if name == "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "ended":
            sys.exit(128 + signal.SIGTERM)
        if name == "kills":
            os.kill(os.getppid(), signal.SIGKILL)
        start_folder(run, recipe, fresh=status == "new")
        with run.lock():
            while name == "stubborn" or (name in ("slow", "lingers") and status == "new" and stop() is None):
                time.sleep(0.01)
            if name in ("slow", "lingers") and status == "new":
                time.sleep(3 if name == "lingers" else 0)
                run.write_metrics([row(1)])
                run.state_file(1, 0).write_text("state")
                note(saved=stop())
                sys.exit(128 + stop())
            run.state_file(1, 0).write_text("state")
            run.write_metrics([row(1), row(2)])
            run.write_json(run.summary, {"epochs": 2, "stopped_early": False})
"""


def make_project(folder: Path) -> None:
    """A checkout with the package, in which `hw1 train` is the stand-in, data in which nothing is read, and no runs yet."""
    for split in ("train", "val"):
        for label in "01":
            (folder / "data" / split / label).mkdir(parents=True)
            (folder / "data" / split / label / "a.jpg").touch()
    (folder / "hw1" / "commands").mkdir(parents=True)
    for path in (ROOT / "hw1").iterdir():
        if path.name not in ("commands", "__pycache__"):
            (folder / "hw1" / path.name).symlink_to(path)
    (folder / STAND_IN_FILE).write_text(STAND_IN)
    (folder / "base.yaml").write_text("data: {root: data}\ntrain: {epochs: 2}\n")


def recipes(*names: str) -> list[str]:
    """Recipe files of these names, each an experiment of its own."""
    for name in names:
        decay = (1 + sum(map(ord, name))) * 1e-5
        Path(f"{name}.yaml").write_text(f"base: base.yaml\noptim: {{weight_decay: {decay}}}\n")
    return [f"{name}.yaml" for name in names]


def call(*arguments: str) -> int:
    return run_command(ablate.main, arguments)


def started() -> list[dict[str, Any]]:
    path = Path("started.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def leave_behind(name: str, seed: int) -> None:
    """A run folder as after the first of two epochs, of 90 s."""
    recipe = load_recipe(f"{name}.yaml", [f"seed={seed}"])
    last = Path(f"runs/{name}/seed{seed}/checkpoints/epoch0001-step000000.pt")
    last.parent.mkdir(parents=True)
    last.touch()
    (last.parents[1] / "config.yaml").write_text(dump_recipe(recipe))
    (last.parents[1] / "metrics.jsonl").write_text(json.dumps(dict.fromkeys(NUMBERS, 0.5) | {"epoch": 1, "seconds": 90.0}) + "\n")


def runs_of(lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(line["name"], line["seed"]) for line in lines]


class Ablation:
    """The real command in a process of its own, beside the stand-in."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "hw1.ablate", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def wait_for_child(self, count: int = 1) -> int:
        """Process number of the run that was started last."""
        wait_until(lambda: len(started()) >= count)
        return int(started()[count - 1]["pid"])

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=240)
        return self.process.returncode, err


@contextmanager
def ablations() -> Iterator[Callable[..., Ablation]]:
    """Starts real commands, which have ended after the block; then no run of theirs is alive."""
    begun: list[Ablation] = []

    def make(*arguments: str) -> Ablation:
        begun.append(Ablation(*arguments))
        return begun[-1]

    yield make
    for ablation in begun:
        ablation.process.kill()
        ablation.process.communicate()
    wait_until(lambda: not any(is_alive(line["pid"]) for line in started()))  # no orphans


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
