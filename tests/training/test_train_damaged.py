"""Whole runs that are continued from damaged checkpoints, or with other data, by the real commands."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers.train_commands import rows_without_times, run, write_recipe

from hw1.data.synthetic import draw_shapes
from hw1.runs.checkpoint import load_state, load_weights
from hw1.runs.folder import RunFolder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes(data, 1)
    path = write_recipe(tmp_path_factory.mktemp("recipe"), data)
    result = run("train.py", path)
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture
def folder(recipe: Path, tmp_path: Path) -> Path:
    """A copy of the finished run of two epochs: one state is the second's end, the one before the first's."""
    shutil.copytree(recipe.parent / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "tiny" / "seed5"
    assert load_state(states(folder)[1])["progress"]["epoch"] == 1
    return folder


def states(folder: Path) -> list[Path]:
    return RunFolder(folder).state_files()


def damage(path: Path, offset: int = 5000) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def resume(recipe: Path, folder: Path, *overrides: str):
    return run("train.py", recipe, f"run.dir={folder.parent.parent}", *overrides)


def test_a_damaged_state_is_named_and_the_previous_continued(recipe: Path, folder: Path) -> None:
    """Epoch 2 is done again, and comes out the same; it is in the metrics once."""
    (folder / "summary.json").unlink()
    last, previous = states(folder)
    good, rows = load_state(last), rows_without_times(folder)
    damage(last)
    result = resume(recipe, folder)
    assert result.returncode == 0, result.stderr
    assert f"{last}: damaged" in result.stderr
    assert f"{previous.name} is used instead" in result.stderr
    assert "continues in epoch 2 at step 0" in result.stderr
    assert rows_without_times(folder) == rows
    again = load_state(last)
    assert all(torch.equal(again["model"][name], good["model"][name]) for name in good["model"])
    assert load_weights(folder / "checkpoints" / "best.safetensors")[1]["epoch"] == again["progress"]["best_epoch"]


def test_a_damaged_state_is_never_the_previous_of_the_next(recipe: Path, folder: Path) -> None:
    damage(states(folder)[0])
    result = resume(recipe, folder, "train.epochs=3", "checkpoint.every_steps=1")
    assert result.returncode == 0, result.stderr
    for path in states(folder):
        load_state(path)
    assert [row["epoch"] for row in rows_without_times(folder)] == [1, 2, 3]


def test_both_damaged_is_refused_and_both_are_named(recipe: Path, folder: Path) -> None:
    for path in states(folder):
        damage(path)
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 2
    assert all(f"{path}: damaged" in result.stderr for path in states(folder))
    assert "--overwrite" in result.stderr
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file() and path.name != ".lock") == before


def test_damaged_best_weights_are_named_and_a_way_out_shown(recipe: Path, folder: Path) -> None:
    best = folder / "checkpoints" / "best.safetensors"
    good = best.read_bytes()
    damage(best)
    result = run("validate.py", folder)
    assert result.returncode == 2
    assert f"{best}: damaged" in result.stderr
    assert "--checkpoint last" in result.stderr
    assert run("validate.py", folder, "--checkpoint", "last").returncode == 0
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 0, result.stderr
    if load_state(states(folder)[1])["progress"]["best_epoch"] == 2:  # was owed, and is made from the state
        assert best.read_bytes() == good or load_weights(best)[1]["epoch"] == 3
    last = states(folder)[0]
    damage(last)
    result = run("validate.py", folder, "--checkpoint", "last")
    assert result.returncode == 0
    assert f"{last}: damaged" in result.stderr


def test_other_classes_or_images_are_refused_with_the_difference(recipe: Path, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    draw_shapes(root, 1)
    (root / "train" / "7").rename(root / "train" / "seven")
    (root / "val" / "7").rename(root / "val" / "seven")
    result = resume(recipe, folder, "train.epochs=3", f"data.root={root}")
    assert result.returncode == 2
    assert "other classes" in result.stderr
    assert "(100 then, 100 now; gone '7'; new 'seven')" in result.stderr
    (root / "train" / "seven").rename(root / "train" / "7")
    (root / "val" / "seven").rename(root / "val" / "7")
    next((root / "train" / "8").iterdir()).unlink()
    (root / "train" / "8" / "x.jpg").write_bytes(next((root / "train" / "9").iterdir()).read_bytes())
    result = resume(recipe, folder, "train.epochs=3", f"data.root={root}")
    assert result.returncode == 2
    assert "have changed since (100 + 100 then, 100 + 100 now)" in result.stderr


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.batch_size=15", "data.batch_size: 30 -> 15"),
        ("model.name=resnet50_cbam", 'model.name: "resnet18_half_cbam" -> "resnet50_cbam"'),
        ("model.num_classes=100", "model.num_classes: null -> 100"),
        ("data.val_fraction=0.5", "data.val_fraction: null -> 0.5"),
        ("train.grad_accum=1", "train.grad_accum: 2 -> 1"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(recipe: Path, folder: Path, override: str, line: str) -> None:
    result = resume(recipe, folder, "train.epochs=3", override)
    assert result.returncode == 2
    assert line in result.stderr
    assert "--overwrite" in result.stderr
