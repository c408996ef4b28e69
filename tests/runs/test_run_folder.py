"""The run folder: how it is started and found again, its lock between real processes, its metrics."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.dying import Dying
from helpers.paths import ROOT
from helpers.run_folders import changed, started, tree

from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.errors import RunError, UserError
from hw1.runs.folder import RunFolder
from hw1.runs.status import run_status, start_folder
from hw1.utils.files import write_atomic


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return changed()


# ---------------------------------------------------------------------------------------------------------------- start


def test_start_states_the_recipe(recipe):
    run = started(recipe)
    assert sorted(tree(run.path)) == ["config.yaml"]
    assert run.read_recipe() == recipe
    assert load_recipe(run.config) == recipe
    assert run.checkpoints.is_dir()


def test_a_fresh_start_empties_the_folder_but_not_what_it_links_to(recipe, tmp_path):
    run = started(recipe, epochs=3)
    outside = tmp_path / "photos"
    outside.mkdir()
    (outside / "p.jpg").write_bytes(b"p")
    (run.path / "link").symlink_to(outside)
    run.eval_dir("val").mkdir(parents=True)
    (run.eval_dir("val") / "metrics.json").write_text("{}")
    (run.path / ".lock").touch()
    other = changed("optim.lr=1")
    start_folder(run, other, fresh=True)
    assert sorted(tree(run.path)) == [".lock", "config.yaml"]
    assert run.read_recipe() == other
    assert (outside / "p.jpg").read_bytes() == b"p"


def test_continuing_keeps_everything_but_the_end_and_leftovers(recipe):
    run = started(recipe, epochs=3)
    for name in (
        ".config.yaml.0123abcd.tmp",
        "checkpoints/.epoch0002-step000000.pt.0123abcd.tmp",
        "checkpoints/epoch0002-step000000.sha256",
    ):
        (run.path / name).write_bytes(b"half a file of a killed process")
    longer = changed("train.epochs=9")
    start_folder(run, longer, fresh=False)
    assert sorted(tree(run.path)) == ["checkpoints/best.safetensors", "checkpoints/epoch0000-step000001.pt", "config.yaml"]
    assert run.read_recipe() == longer
    assert run_status(run, longer) == "interrupted"


def test_an_overwriting_that_was_killed_leaves_a_run_that_can_be_started(recipe, monkeypatch):
    """Wherever the process dies: never a folder that is no run, nor the old run's state under the new recipe."""
    other = changed("optim.lr=1")
    for survived in range(50):
        run = started(recipe, epochs=3)
        (run.path / "env.json").touch()
        dies = Dying(survived, KeyboardInterrupt)
        with monkeypatch.context() as patch:
            for owner, name in ((Path, "unlink"), (Path, "mkdir"), (os, "rmdir"), (os, "replace"), (os, "unlink")):
                patch.setattr(owner, name, dies(getattr(owner, name)))
            try:
                start_folder(run, other, fresh=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        if run.read_recipe() == other:
            assert not run.state_files()
            assert run_status(run, other) == "new"
        elif run.state_files():
            assert run.best.exists()  # what can be continued is still whole
            assert (run.path / "env.json").exists()
        assert run_status(run, other, overwrite=True) == "new"
    assert 5 < survived < 49


def test_a_folder_that_cannot_be_made_is_a_run_error(recipe):
    Path("runs").write_text("")
    with pytest.raises(RunError, match="runs/a/seed118: cannot be written: Not a directory"):
        start_folder(RunFolder.of(recipe), recipe, fresh=False)


# ----------------------------------------------------------------------------------------------------------------- lock


HOLD = """
import os, sys, time
from pathlib import Path
from hw1.errors import run_command
from hw1.runs.folder import RunFolder

def main(argv):
    with RunFolder(Path(argv[0])).lock():
        child = os.fork() if "fork" in argv else -1  # as a loader's worker
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        sys.stdin.read()

sys.exit(run_command(main, sys.argv[1:]))
"""


def hold(run: RunFolder, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(run.path), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def test_the_lock_keeps_others_out_and_dies_with_its_owner(recipe):
    run = started(recipe)
    owner = hold(run, "fork")
    assert owner.stdout
    worker = int(owner.stdout.readline())
    try:
        other = hold(run)
        assert other.communicate(timeout=60) == ("", "runs/a/seed118: another process is training this run\n")
        assert other.returncode == 2
        with pytest.raises(UserError, match="another process"), run.lock():
            pass
        assert run.is_locked()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert not run.is_locked()
        os.kill(worker, 0)  # a forked worker outlives its parent for a while: it must not hold the lock
        with run.lock():
            refused = hold(run)
            assert refused.communicate(timeout=60)[1].endswith("another process is training this run\n")
        after = hold(run)
        assert after.communicate(timeout=60)[0] == "-1\n"
        assert after.returncode == 0
    finally:
        os.kill(worker, signal.SIGKILL)
        owner.kill()
        owner.communicate()


def test_a_path_that_cannot_be_is_a_mistake(tmp_path):
    recipe = Recipe(run={"dir": f"{tmp_path}{'/y' * 3000}", "name": "x"})
    run = RunFolder.of(recipe)
    run.require_unlocked()
    assert run.version() == []
    with pytest.raises(UserError, match="cannot be a run folder: File name too long"):
        run_status(run, recipe)


def test_a_run_that_is_held_is_refused_without_a_trace(recipe):
    run = RunFolder.of(recipe)
    run.require_unlocked()
    assert not Path("runs").exists()
    started(recipe)
    run.require_unlocked()
    assert sorted(tree(run.path)) == ["config.yaml"]
    owner = hold(run)
    assert owner.stdout
    owner.stdout.readline()
    with pytest.raises(UserError, match="another process is training this run"):
        run.require_unlocked()
    owner.kill()
    owner.communicate()
    run.require_unlocked()


def test_the_stamp_tells_whether_another_process_was_at_work(recipe):
    run = RunFolder.of(recipe)
    stamps = [run.version()]
    for act in (lambda: started(recipe), lambda: started(recipe, last=True), lambda: write_atomic(run.state_file(0, 1), b"state")):
        act()
        stamps.append(run.version())
        assert run.version() == stamps[-1]
    assert all(stamps[i] != stamps[k] for i in range(len(stamps)) for k in range(i))
    with run.lock():
        run.write_metrics(ROWS)
    assert run.version() == stamps[-1]


def test_an_error_inside_the_lock_stays_what_it_is(recipe):
    run = started(recipe)
    for error in (PermissionError(13, "no"), BlockingIOError(11, "later")):
        with pytest.raises(type(error)), run.lock():
            raise error
    with run.lock():
        pass


def test_a_folder_that_cannot_be_locked_is_the_users_mistake(recipe):
    with pytest.raises(UserError, match="cannot be written to: No such file"), RunFolder(Path("gone")).lock():
        pass


# -------------------------------------------------------------------------------------------------------------- metrics


ROWS = [
    {"epoch": 1, "train_loss": 4.605170185988092, "val_top1": 0.1, "lr": 1e-4, "images_per_second": 1234.5},
    {"epoch": 2, "train_loss": 1 / 3, "val_top1": 1.0, "lr": 1e-06, "images_per_second": 5e-324},
    {"epoch": 3, "train_loss": float("nan"), "val_top1": 0.0, "lr": 1e-4, "images_per_second": float("inf")},
]


def test_metrics_are_the_same_numbers_in_both_files(recipe):
    run = started(recipe)
    assert run.read_metrics() == []
    for count in range(4):
        run.write_metrics(ROWS[:count])
        assert repr(run.read_metrics()) == repr(ROWS[:count])
        with open(run.metrics_csv, newline="") as file:
            table = [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]
        assert repr(table) == repr([{name: float(number) for name, number in row.items()} for row in ROWS[:count]])
    assert len(run.metrics_jsonl.read_text().splitlines()) == 3
    assert all(json.loads(line) for line in run.metrics_jsonl.read_text().splitlines())


@pytest.mark.parametrize("torn", ['{"epoch": 2, "tra', "", "3", "[1, 2]", "null", "\xff\xfe"])
def test_a_torn_line_is_named(recipe, torn):
    run = started(recipe)
    run.write_metrics(ROWS[:1])
    with open(run.metrics_jsonl, "ab") as file:
        file.write(torn.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match=r"^runs/a/seed118/metrics\.jsonl: line 2 is damaged; "):
        run.read_metrics()


# ------------------------------------------------------------------------------------------------------------- existing


def test_an_existing_run_is_found(recipe):
    run = started(recipe)
    assert RunFolder.existing("runs/a/seed118/") == run
    assert RunFolder.existing(run.path.absolute()).read_recipe() == recipe


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("runs/a", "runs/a: no run folder (it has no config.yaml); did you mean runs/a/seed118?"),
        ("runs", "runs: no run folder (it has no config.yaml); did you mean runs/a/seed118?"),
        ("empty", "empty: no run folder (it has no config.yaml)"),
        ("gone", "gone: no such folder"),
        ("runs/a/seed118/config.yaml", "runs/a/seed118/config.yaml: no such folder"),
    ],
)
def test_what_is_no_run_is_refused_with_a_hint(recipe, path, expected):
    started(recipe)
    Path("empty").mkdir()
    with pytest.raises(UserError) as caught:
        RunFolder.existing(path)
    assert caught.value.problems == (expected,)


def test_looking_for_a_run_does_not_search_a_whole_disk(recipe):
    Path("a/b/c/d").mkdir(parents=True)
    Path("a/b/c/d/config.yaml").touch()
    with pytest.raises(UserError, match=r"^a: no run folder \(it has no config\.yaml\)$"):
        RunFolder.existing("a")
