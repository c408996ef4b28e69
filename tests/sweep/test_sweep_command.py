"""hw1 sweep with a stand-in for `hw1 train`: trials, early stops, kills, the new seeds, and what is refused."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.plan_runs import wait_until
from helpers.sweep_runs import accuracy, epochs_trained, make_sweep_project

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -r requirements-sweep.txt")

from hw1.errors import run_command
from hw1.evaluation.selection import expected_maximum
from hw1.sweep import __main__ as sweep

FOLDER = Path("runs/tiny-sweep")
COMMAND = ("tiny.yaml", "space.yaml", "--trials", "6", "--seeds", "2", "--prune-after", "4")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    make_sweep_project(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    return folder


def call(*arguments: str) -> int:
    return run_command(sweep.main, arguments)


def trials() -> list[dict[str, str]]:
    rows = list(csv.DictReader((FOLDER / "trials.csv").read_text().splitlines()))
    return sorted(rows, key=lambda row: int(row["trial"]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A sweep that was not interrupted: its project, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    make_sweep_project(folder)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run([sys.executable, "-m", "hw1.sweep", *COMMAND], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


@pytest.mark.slow
def test_each_trial_is_a_run_and_a_line_and_the_best_is_first_in_the_table(whole, monkeypatch):
    folder, out, err = whole
    monkeypatch.chdir(folder)
    found = trials()
    assert len(re.findall(r"^trial\d+ of 6: ", err, re.MULTILINE)) == len(found) == 6
    assert {row["state"] for row in found} == {"finished"}
    for row in found:
        scores = [accuracy(float(row["optim.lr"]), epoch / 4, seed=0) for epoch in range(1, int(row["epochs"]) + 1)]
        assert float(row["val_top1"]) == pytest.approx(max(scores), abs=0.0026)
        assert (FOLDER / f"trials/trial{int(row['trial']):03}/seed0/summary.json").exists()
    best = max(found, key=lambda row: float(row["val_top1"]))
    table = out.splitlines()
    assert table[0].split() == ["trial", "state", "val", "top1", "epoch", "optim.lr", "model.drop_rate"]
    assert table[1].split()[:2] == [best["trial"], "finished"]
    assert f"optim.lr={best['optim.lr']}" in out
    assert (FOLDER / "trials.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_winner_is_run_again_on_new_seeds_and_its_luck_is_told(whole):
    folder, out, _ = whole
    [winner] = json.loads((folder / FOLDER / "winners.json").read_text())
    rows = {f"trial{int(row['trial']):03}": row for row in csv.DictReader((folder / FOLDER / "trials.csv").read_text().splitlines())}
    lr = float(rows[winner["name"]]["optim.lr"])
    new = [accuracy(lr, 1.0, seed) for seed in (1, 2)]
    own = [accuracy(3e-5, 1.0, seed) for seed in (1, 2)]
    assert winner["new_scores"] == pytest.approx(new, abs=0.0026)
    assert winner["luck"] == pytest.approx(float(rows[winner["name"]]["val_top1"]) - np.mean(winner["new_scores"]))
    std = np.sqrt((np.var(new, ddof=1) + np.var(own, ddof=1)) / 2)
    assert winner["expected_luck"] == pytest.approx(expected_maximum(6) * std, abs=0.01)
    assert winner["outcome"] == "needs three seeds"
    assert winner["verdict"].startswith(f"{100 * (np.mean(new) - np.mean(own)):+.0f}"[:2])
    assert f"{winner['name']} against the recipe: {winner['verdict']}" in out
    assert re.search(rf"^next: .*hw1 report {FOLDER}/seeds --baseline recipe$", out, re.MULTILINE)
    assert sorted(path.name for path in (folder / FOLDER / "seeds").glob("*/seed*")) == sorted(["seed1", "seed2"] * 2)


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_was_and_trains_nothing_twice(project, whole, monkeypatch):
    Path("slow").write_text("0.2")
    for num_epochs, signum in ((2, signal.SIGKILL), (6, signal.SIGTERM)):
        process = subprocess.Popen([sys.executable, "-m", "hw1.sweep", *COMMAND], stderr=subprocess.PIPE, text=True)
        wait_until(lambda num=num_epochs: len(epochs_trained()) >= num)
        process.send_signal(signum)
        _, err = process.communicate(timeout=120)
        assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum), err
    Path("slow").unlink()
    assert call(*COMMAND) == 0
    epochs = [tuple(each) for each in epochs_trained()]
    assert len(set(epochs)) == len(epochs)
    num_epochs = len(epochs)
    monkeypatch.chdir(whole[0])
    expected = trials(), (FOLDER / "winners.json").read_bytes()
    monkeypatch.chdir(project)
    assert (trials(), (FOLDER / "winners.json").read_bytes()) == expected
    assert call(*COMMAND) == 0
    assert len(epochs_trained()) == num_epochs


def test_what_a_sweep_was_begun_with_stays(project, capsys):
    Path("space.yaml").write_text("model.drop_rate: [0.0, 0.2]\n")
    assert call("tiny.yaml", "space.yaml", "--trials", "1", "--seeds", "0") == 0
    capsys.readouterr()
    Path("space.yaml").write_text("model.drop_rate: [0.0, 0.5]\n")
    assert call("tiny.yaml", "space.yaml", "optim.lr=1e-3", "log.every_steps=7") == 2
    assert capsys.readouterr().err.splitlines() == [
        'runs/tiny-sweep: begun with another space: model.drop_rate: "[0.0, 0.2]" -> "[0.0, 0.5]"',
        "runs/tiny-sweep: begun with another recipe: optim.lr: 3e-05 -> 0.001",
        "runs/tiny-sweep: run.name=NAME begins another sweep",
    ]


def test_trials_that_fail_say_why_and_three_in_a_row_end_the_sweep(project, capsys):
    Path("space.yaml").write_text("optim.lr: {low: 1e-4, high: 1e-3}\n")
    assert call("tiny.yaml", "space.yaml", "optim.weight_decay=0.9", "--trials", "9") == 3
    err = capsys.readouterr().err
    assert err.count("diverged (see runs/tiny-sweep/trials/trial001-seed0.log)") == 2  # as it failed, and at the end
    assert "3 trials in a row have failed" in err
    assert [row["state"] for row in trials()] == ["failed"] * 3


def test_a_full_disk_is_one_line_and_the_sweep_goes_on_afterwards(project, capsys, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("hw1.sweep.study.Study.end", fail)
        assert call("tiny.yaml", "space.yaml", "--trials", "1", "--seeds", "0") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "runs/tiny-sweep/study.journal: cannot be written: No space left on device; the same command continues"
    num_epochs = len(epochs_trained())
    assert call("tiny.yaml", "space.yaml", "--trials", "1", "--seeds", "0") == 0
    assert len(epochs_trained()) == num_epochs


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["tiny.yaml"], "hw1 sweep: needs one recipe and one SPACE.yaml, got tiny.yaml"),
        (["tiny.yaml", "space.yaml", "--trials", "0"], "--trials: at least 1, got 0"),
        (["tiny.yaml", "space.yaml", "--seeds", "-1"], "--seeds: at least 0, got -1"),
        (["tiny.yaml", "space.yaml", "--prune-after", "0"], "--prune-after: at least 1, got 0"),
        (["tiny.yaml", "space.yaml", "optim.lr=1"], "space.yaml: optim.lr: is set on the command line too; leave it out in one place"),
        (
            ["tiny.yaml", "none.yaml"],
            "none.yaml: no such file; it lists keys to vary, as `optim.lr: {low: 1e-5, high: 1e-2, log: true}`",
        ),
        (["tiny.yaml", "space.yaml", "--gpus-per-run", "1"], "--cpus-per-run, --gpus-per-run: only with --ray"),
        (["tiny.yaml", "space.yaml", "data.root=nowhere"], "command line: data.root: nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(project, capsys, arguments, line):
    assert call(*arguments) == 2
    assert capsys.readouterr().err.splitlines() == [line]
    assert not Path("runs").exists()


def test_a_missing_optuna_is_one_line_with_what_to_install(project, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    assert call("tiny.yaml", "space.yaml") == 2
    assert capsys.readouterr().err == "hw1 sweep: Optuna is not installed; pip install -r requirements-sweep.txt\n"


def test_a_dry_run_says_what_would_vary_and_writes_nothing(project, capsys):
    with open("space.yaml", "a") as file:
        file.write("optim.kwargs.eps: [1e-8, 1e-7]\n")
    assert call("tiny.yaml", "space.yaml", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "optim.lr          1e-05 to 0.1, log  (the recipe's own: 3e-05)",
        "model.drop_rate   [0.0, 0.2]  (the recipe's own: 0.5)",
        "optim.kwargs.eps  [1e-08, 1e-07]  (the recipe's own: null)",
        "20 trials of 4 epochs each, in runs/tiny-sweep/trials",
    ]
    assert not Path("runs").exists()


def test_the_help_and_a_mistake_load_no_optuna():
    code = "import sys, hw1.sweep.__main__; print('optuna' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
