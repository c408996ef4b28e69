"""Whole runs on a disk that is full or cannot be written to: a small tmpfs in a mount namespace of its own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_disks import MIB, checkpoints, on_a_disk, once_saved, read_only
from helpers.train_commands import newest_state, run, write_recipe

from hw1.data.synthetic import draw_shapes
from hw1.runs.checkpoint import load_state


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes(data, 1)
    path = write_recipe(tmp_path_factory.mktemp("recipe"), data)
    path.write_text(path.read_text() + "checkpoint: {every_steps: 1}\n")
    return path


@pytest.fixture(scope="module")
def started(recipe: Path) -> Path:
    """The folder `runs` of a run of one epoch."""
    result = run("train.py", recipe, "train.epochs=1")
    assert result.returncode == 0, result.stderr
    return recipe.parent / "runs"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A place to mount at, which no other process sees."""
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True)
    if sys.platform != "linux" or probe.returncode:
        pytest.skip("file systems cannot be mounted here (it takes Linux and root)")
    disk = tmp_path / "disk"
    disk.mkdir()
    return disk


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoints(disk: Path, started: Path, recipe: Path, tmp_path: Path) -> None:
    before = checkpoints(started)
    result = on_a_disk(disk, started, tmp_path / "out", room=max(map(len, before.values())) // 2, recipe=recipe)
    assert result.returncode == 3, result.stderr
    folder = disk / "runs" / "tiny" / "seed5" / "checkpoints"
    assert re.search(rf"{folder}/epoch0001-step\d+\.pt: cannot be written: No space left on device; free some space there", result.stderr)
    assert "Traceback" not in result.stderr
    assert checkpoints(tmp_path / "out") == before
    shutil.rmtree(disk)
    result = run("train.py", recipe, f"run.dir={tmp_path / 'out'}", "train.epochs=2")  # there is room again
    assert result.returncode == 0, result.stderr
    assert load_state(newest_state(tmp_path / "out" / "tiny" / "seed5"))["progress"]["epoch"] == 2


def test_a_disk_that_cannot_be_written_to_is_named_at_once(disk: Path, started: Path, recipe: Path, tmp_path: Path) -> None:
    result = on_a_disk(disk, started, tmp_path / "out", room=100 * MIB, then=f"mount -o remount,ro {disk}", recipe=recipe)
    assert result.returncode == 2, result.stderr
    assert f"{disk / 'runs/tiny/seed5'}: cannot be written to: Read-only file system" in result.stderr
    assert "Traceback" not in result.stderr
    assert checkpoints(tmp_path / "out") == checkpoints(started)


def test_a_folder_that_turns_read_only_ends_the_run(disk: Path, started: Path, recipe: Path, tmp_path: Path) -> None:
    """As after the first checkpoint of the process; a disk that fails is made read-only by Linux."""
    folder = disk / "runs" / "tiny" / "seed5" / "checkpoints"
    then = once_saved(disk, read_only(folder))
    result = on_a_disk(disk, started, tmp_path / "out", room=100 * MIB, then=then, recipe=recipe)
    assert result.returncode == 3, result.stderr
    assert re.search("cannot be (written|removed): Read-only file system; make it writable, then the same command continues", result.stderr)
    assert "Traceback" not in result.stderr
    saved = tmp_path / "out" / "tiny" / "seed5" / "checkpoints"
    assert len(list(saved.glob("epoch*.pt"))) == 2
    assert (saved / "best.safetensors").is_file()
    load_state(newest_state(saved.parent))
