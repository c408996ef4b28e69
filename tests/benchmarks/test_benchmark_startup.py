"""The benchmark of how soon commands answer: what is read off a program's output, small measurements, and bounds beside `import torch`."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.startup import peers, programs, tables
from benchmarks.startup.__main__ import add, main
from benchmarks.startup.programs import first_step
from benchmarks.startup.watch import END, watch
from hw1.errors import RunError, run_command

SLEEPER = "import time\nprint('begin', flush=True)\ntime.sleep(0.5)\nprint('step 1/5', flush=True)\ntime.sleep(60)"
BUSY = "import time\nwhile time.process_time() < 0.6: pass\nprint('step 1/5', flush=True)\nwhile time.process_time() < 1.2: pass"
PRINTER = "import sys, time\nfor text in {}:\n    sys.stdout.buffer.write(text)\n    sys.stdout.flush()\n    time.sleep(0.3)"
WITH_CHILD = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\nprint('done', flush=True)\ninput()"


def watched(code: str, marks: dict, *words: str, **options):
    return watch([sys.executable, "-c", code, *words], marks, folder=Path.cwd(), env={}, **options)


def test_a_mark_is_noted_when_it_is_printed_and_the_program_killed_at_the_last_one():
    found = watched(SLEEPER, {"line": rb"\S", "step": rb"step 1/"}, stop_at="step")
    assert 0.4 < found["step"].wall - found["line"].wall < 20
    assert found["step"].processor < 0.4
    assert END not in found


def test_processor_time_is_that_up_to_the_mark_and_up_to_the_end():
    found = watched(BUSY, {"step": rb"step"})
    assert 0.55 < found["step"].processor < 1.1 < found[END].processor
    assert found[END].wall >= found["step"].wall


def test_the_processor_time_of_a_child_counts():
    assert watched(WITH_CHILD, {"done": rb"done"}, BUSY, stop_at="done")["done"].processor > 1.1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no photographs')", r"exit code 1, without \['step'\]: no photographs"),
        ("print('epoch')", r"exit code 0, without"),
    ],
)
def test_what_ends_without_the_mark_is_no_measurement(code, message):
    with pytest.raises(RunError, match=message):
        watched(code, {"step": rb"step"}, stop_at="step")


@pytest.mark.parametrize(
    ("program", "line", "before"),
    [
        ("hw1 train", b"epoch 1/1  step 1/5  loss 3.3739  lr 4.0e-04  53 img/s\n", b"batches: 32 images of 96 x 96; adamw\n"),
        (
            "timm's train.py",
            b"Train: 0 [   0/5 ( 20%)]  Loss: 3.40 (3.40)  Time: 1.141s",
            b"Scheduled epochs: 1 (epochs + cooldown_epochs).\n",
        ),
        (
            "ultralytics' yolo classify train",
            b"\r\x1b[K        1/1         0G      3.016         32         96: 0% 0/5",
            b"Epoch    GPU_mem  loss\n",
        ),
    ],
)
def test_a_first_step_is_told_from_what_comes_before(tmp_path, program, line, before):
    """On lines that these programs printed."""
    (tmp_path / "images/train/a").mkdir(parents=True)
    (tmp_path / "timm/small").mkdir(parents=True)
    (tmp_path / "ultralytics/small/weights").mkdir(parents=True)
    for made in ("timm/small/last.pth.tar", "ultralytics/small/weights/best.pt", "train.py", "bin/yolo"):
        (tmp_path / made).parent.mkdir(exist_ok=True)
        (tmp_path / made).write_text("--device-modules")
    steps = [programs.first_step(tmp_path), peers.timm_programs(tmp_path, tmp_path)[0], peers.ultralytics_programs(tmp_path, tmp_path)[0]]
    [step] = [each for each in steps if each.name == program]
    found = watched(PRINTER.format([before, line]), step.marks, stop_at=step.stop_at)
    assert found["step"].wall - found["line"].wall > 0.2


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A prediction, a training's first step and `import torch`, as the benchmark measures them; of two commands two tries."""
    folder = tmp_path_factory.mktemp("startup")
    words = ["--work", str(folder / "work"), "--out", str(folder / "startup.json"), "--only=--help", "--only=unknown key"]
    assert run_command(main, ["--tries", "1", *words, "--only=torch", "--only=predict, a run"]) == 0
    assert run_command(main, ["--tries", "2", *words]) == 0
    result = json.loads((folder / "startup.json").read_text())
    add(result["results"].setdefault("first_step", {}).setdefault("hw1 train", {}), first_step(folder / "work"), folder / "work")
    return result


@pytest.mark.slow
def test_tries_are_added_to_a_result_file(measured):
    assert measured["complete"]
    commands = measured["results"]["commands"]
    assert {name: {len(mark["wall"]) for mark in row.values()} for name, row in commands.items()} == {
        "import torch, for comparison": {1},
        "hw1 --help": {2},
        "hw1 train --help": {2},
        "hw1 train, an unknown key": {2},
        "hw1 predict, a run": {1},
    }
    text = tables.tables(measured)
    assert "| hw1 train, an unknown key | 0." in text
    assert "the least of 2 tries" in text


@pytest.mark.slow
def test_commands_answer_soon_beside_import_torch(measured):
    """Processor time as ratio to `import torch`: measured 0.02, 0.1, 1.3, 1.4 and 2.1; the prediction was at 3.6 before."""
    torch = min(measured["results"]["commands"]["import torch, for comparison"][END]["processor"])

    def ratio(group: str, name: str, mark: str) -> float:
        return min(measured["results"][group][name][mark]["processor"]) / torch

    assert ratio("commands", "hw1 --help", END) < 0.2
    assert ratio("commands", "hw1 train, an unknown key", "line") < 0.5
    assert ratio("commands", "hw1 predict, a run", END) < 1.9
    assert ratio("first_step", "hw1 train", "line") < 1.9
    assert ratio("first_step", "hw1 train", "step") < 3.0
