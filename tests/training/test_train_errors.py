"""Runs by the real commands that are stopped or never start: signals, a second process, the user's mistakes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from faults.processes import expect_clear, start
from helpers.paths import ROOT
from helpers.train_commands import newest_state, rows_without_times, run, write_recipe

from hw1.data.synthetic import draw_shapes
from hw1.runs.checkpoint import load_state
from hw1.training import trainer as engine


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes(data, 2)
    return write_recipe(tmp_path_factory.mktemp("recipe"), data)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_the_run_continues(recipe: Path, tmp_path: Path, signum: int, code: int) -> None:
    arguments = (recipe, f"run.dir={tmp_path}", "train.epochs=50")
    folder = tmp_path / "tiny" / "seed5"
    process = start(tmp_path / "out.txt", "train", *arguments)
    process.wait_until((folder / "metrics.jsonl").is_file)
    process.send(signum)
    process.wait(60)
    expect_clear(process, code, "the same command continues it")
    progress = torch.load(newest_state(folder), weights_only=True)["progress"]
    assert progress["epoch"] >= 1
    result = run("train.py", recipe, f"run.dir={tmp_path}", f"train.epochs={progress['epoch'] + 1}")
    assert result.returncode == 0, result.stderr
    epochs = [row["epoch"] for row in rows_without_times(folder)]
    assert epochs == list(range(1, progress["epoch"] + 2))


def test_second_process_on_one_run_is_refused(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "seed5"
    folder.mkdir(parents=True)
    hold = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        result = run("train.py", recipe, f"run.dir={tmp_path}", "data.root=nowhere")  # refused before it looks at the data
        other.communicate()
    assert result.returncode == 2
    assert "another process" in result.stderr


def test_a_run_that_another_process_has_worked_on_meanwhile_is_left_alone(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the folder and the lock another process may begin, save and be killed: what was read before is old."""
    arguments = (recipe, f"run.dir={tmp_path}", "train.epochs=1")
    last, opens = tmp_path / "tiny" / "seed5" / "checkpoints" / "epoch0001-step000000.pt", engine.build_parts

    def late(*args: object, **options: object) -> object:
        parts = opens(*args, **options)  # type: ignore[arg-type]
        last.parent.mkdir(parents=True)
        (tmp_path / "tiny" / "seed5" / "config.yaml").write_text("theirs")
        last.write_bytes(b"theirs")
        return parts

    monkeypatch.setattr(engine, "build_parts", late)
    result = run("train.py", *arguments)
    assert result.returncode == 2
    assert "another process has worked on this run meanwhile; the same command continues it" in result.stderr
    assert last.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=null"], "data.root: not set"),
        (["data.root=/nowhere/at/all"], "no such folder"),
        (["model.name=resnet18_cbm"], "model.name: timm has no model 'resnet18_cbm'; the nearest are resnet18_cbam"),
        (["freeze.stages=[layr1]"], "freeze.stages: this model has no stage 'layr1', the nearest is 'layer1'"),
        (["model.num_classes=7"], "model.num_classes"),
        (["model.weights=/nowhere.pth"], "model.weights: /nowhere.pth: no such file"),
        (["train.device=cuda"], "train.device: no cuda device"),
        (["model.name=x", "data.root=/nowhere"], "command line: data.root"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(recipe: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    if "train.device=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    result = run("train.py", recipe, f"run.dir={tmp_path / 'runs'}", *overrides)
    assert result.returncode == 2
    [line] = [line for line in result.stderr.splitlines() if message in line]
    assert line.startswith(("command line: ", str(recipe), str(ROOT / "recipes" / "base.yaml")))
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_wrong_argument_is_no_traceback(tmp_path: Path) -> None:
    result = run("validate.py", tmp_path)
    assert result.returncode == 2
    assert "no run folder" in result.stderr
    assert os.listdir(tmp_path) == []


def test_out_of_memory_is_one_line_of_advice_and_a_checkpoint_stays(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (recipe, f"run.dir={tmp_path}", "checkpoint.every_steps=1", "train.epochs=1")
    step, calls = engine.train_step, 0

    def fails_late(*arguments: object) -> bool:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "train_step", fails_late)
    result = run("train.py", *arguments)
    assert result.returncode == 3
    advice = "out of memory on the device; the same updates in less memory: data.batch_size=15 train.grad_accum=4 --new"
    assert result.stderr.splitlines()[-1] == f"{tmp_path / 'tiny' / 'seed5'}: {advice}"
    checkpoints = tmp_path / "tiny" / "seed5" / "checkpoints"
    assert load_state(newest_state(checkpoints.parent))["progress"]["updates"] == 2
    assert len(list(checkpoints.glob("epoch*.pt"))) == len(list(checkpoints.glob("epoch*.sha256"))) == len(list(checkpoints.iterdir())) // 2
