"""What the console says of the epochs: without a terminal a line now and then, the best marked, the time left of the whole run."""

import os
import pty
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.audit_images import clean_root
from helpers.paths import ROOT
from helpers.tiny_training import NUM_STEPS, make
from helpers.train_commands import command, run, write_recipe

from hw1.training import progress_lines
from hw1.training.progress_lines import ProgressLines

ROW = {
    "epoch": 1, "train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0, "val_top1": 0.5, "val_top5": 1.0, "lr": 1e-3,
    "images_per_second": 100.0, "data_wait": 0.0, "seconds": 120.0,
}  # fmt: skip


class Told:
    """A run on a clock of its own: 32 images a step, `every` steps between two looks at the loss."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, epochs: int = 4, every: int = 2, is_terminal: bool = False) -> None:
        self.now, self.every = 0.0, every
        self.state = make(train={"epochs": epochs})
        self.rows: list[dict] = []
        self.lines = ProgressLines(self.state, self.rows)
        self.bar = SimpleNamespace(disable=not is_terminal, update=lambda: None, shown=[])
        self.bar.set_postfix_str = self.bar.shown.append
        monkeypatch.setattr(progress_lines, "ProgressBar", lambda **options: self.bar)
        monkeypatch.setattr(progress_lines, "time", SimpleNamespace(monotonic=lambda: self.now))

    def train(self, *seconds: float) -> None:
        for each in seconds:
            self.now += each
            progress = self.state.progress
            progress.step, progress.epoch_seconds = progress.step + 1, progress.epoch_seconds + each
            self.lines.count_step()
            if progress.step % self.every == 0:
                self.lines.show_loss(1.5)


def test_without_a_terminal_the_first_step_has_a_line_and_then_each_half_minute_at_most(monkeypatch, capsys):
    told = Told(monkeypatch)
    told.lines.begin_epoch()
    told.train(65.0)
    first = capsys.readouterr().err
    assert re.fullmatch(r"epoch 1/4  step 1/12  loss \d+\.\d{4}  lr 1\.0e-03  0 img/s\n", first), first
    told.train(*[8.0] * 9)
    assert capsys.readouterr().err.splitlines() == [  # looked at each second step: 8, 24, 40, 56, 72 s after the line
        "epoch 1/4  step 6/12  loss 1.5000  lr 1.0e-03  4 img/s  left 6 min",
        "epoch 1/4  step 10/12  loss 1.5000  lr 1.0e-03  4 img/s  left 5 min",
    ]


def test_further_epochs_begin_without_a_line_of_their_own(monkeypatch, capsys):
    told = Told(monkeypatch)
    for _ in range(2):
        told.lines.begin_epoch()
        told.train(*[1.0] * NUM_STEPS)
        told.state.progress.epoch, told.state.progress.step = told.state.progress.epoch + 1, 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_on_a_terminal_the_bar_says_it(monkeypatch, capsys):
    told = Told(monkeypatch, is_terminal=True)
    told.lines.begin_epoch()
    told.train(*[50.0] * 4)
    assert capsys.readouterr().err == ""
    assert told.bar.shown == [
        "loss 1.5000, lr 1.0e-03, 1 img/s, left 38 min",
        "loss 1.5000, lr 1.0e-03, 1 img/s, left 37 min",
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_first_line_waits_for_no_device(monkeypatch, capsys, device):
    """Reading the sums would: on a GPU the line does without the loss."""
    told = Told(monkeypatch)
    told.state.device = SimpleNamespace(type=device)
    reads: list[int] = []

    class Sums:
        def __getitem__(self, index: int) -> SimpleNamespace:
            reads.append(index)
            return SimpleNamespace(item=lambda: 6.0)

    told.state.sums = Sums()
    told.lines.begin_epoch()
    told.train(1.0)
    assert bool(reads) == (device == "cpu")
    assert ("loss 1.0000" in capsys.readouterr().err) == (device == "cpu")


def test_an_epochs_line_marks_a_new_best_and_ends_with_the_time_left(monkeypatch, capsys):
    told = Told(monkeypatch)
    for epoch, is_best, end in ((1, True, "  120 s  * new best  left 6 min"), (2, False, "  90 s  left 3 min"), (4, False, "  90 s")):
        told.rows.append({**ROW, "epoch": epoch, "seconds": 120.0 if epoch == 1 else 90.0})
        told.state.progress.epoch, told.state.progress.step = epoch, 0
        told.lines.end_epoch(told.rows[-1], is_best=is_best)
        line = capsys.readouterr().err.rstrip("\n")
        assert line.startswith(f"epoch {epoch}/4  train loss ")
        assert line.endswith(end)


def test_the_time_left_within_an_epoch_counts_the_rest_of_it(monkeypatch):
    told = Told(monkeypatch, epochs=10)
    told.rows.append(ROW)
    told.state.progress.epoch, told.state.progress.step = 1, NUM_STEPS // 2
    assert told.lines.seconds_left() == pytest.approx(8.5 * 120)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), clean_root(tmp_path_factory.mktemp("data")))


@pytest.mark.slow
def test_a_run_begins_with_what_it_is_and_says_each_epoch_in_a_line(recipe, tmp_path):
    result = run("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=3")
    lines = result.stderr.splitlines()
    path = tmp_path / "tiny/seed5"
    starts = [
        "device: cpu",
        "model: resnet18_half_cbam, 2.8 of 2.8 M parameters trained, in ",
        "data: ",
        "batches: 30 images of 32 x 32, 2 in a step of 60; adamw, rate 0.001, plateau; 3 epochs of ",
        f"run: {path}; samples.png ",
    ]
    places = [next(number for number, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)
    assert re.match(r"data: \d+ images to train on, \d+ to validate on, \d classes; no worker processes$", lines[places[2]])
    assert [line[:16] for line in lines if re.match(r"epoch \d/3  train", line)] == [f"epoch {number}/3  train" for number in (1, 2, 3)]
    assert "* new best" in next(line for line in lines if line.startswith("epoch 1/3  train"))
    assert re.match(r"epoch 1/3  step 1/\d+  loss ", lines[places[-1] + 1])
    assert result.stdout.splitlines()[-1].endswith(f" validate {path}")


@pytest.mark.slow
def test_a_terminal_gets_the_bar_and_no_lines_of_steps(recipe, tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(command("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=1"), stderr=slave, stdout=slave, cwd=ROOT)
    os.close(slave)
    text = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    assert process.wait(timeout=60) == 0, text
    shown = text.decode()
    assert re.search(r"epoch 1/1: +\d+%", shown)
    assert "  step 1/" not in shown


@pytest.mark.slow
def test_a_new_run_is_numbered_and_continued_by_its_name(recipe, tmp_path):
    options = (recipe, f"run.dir={tmp_path}", "train.epochs=1", "aug.rotation=5")
    assert run("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=1").returncode == 0
    refused = run("train.py", *options)
    assert refused.returncode == 2
    assert "run.name=NAME, or --new, starts another run" in refused.stderr
    started = run("train.py", *options, "--new")
    assert started.returncode == 0, started.stderr
    told = f"{tmp_path}/tiny-2/seed5: a new run; the same command with run.name=tiny-2 instead of --new continues it"
    assert told in started.stderr.splitlines()
    longer = run("train.py", *options, "train.epochs=2", "run.name=tiny-2")
    assert longer.returncode == 0, longer.stderr
    assert "continues in epoch 2" in longer.stderr
    finished = run("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=1")
    assert "--new starts another run" in finished.stdout
    first, *rest = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("tiny"))
    assert (first, rest) == ("tiny", ["tiny-2"])
    both = subprocess.run(command("train.py", *options, "--new", "--overwrite"), capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert both.returncode == 2
    assert "not allowed with argument" in both.stderr
