"""Class folders without splits are trained on at once, and only where nothing makes it unclear that they are classes."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.audit_images import make_image, save
from helpers.folder_trees import config, make, problems
from helpers.train_commands import run, write_recipe

from hw1.data.image_folder import open_training_data

TEN = [f"{name}/{number}.jpg" for name in "ab" for number in range(10)]


def test_a_stated_share_of_each_class_is_held_out_by_the_seed(tmp_path: Path) -> None:
    root = make(tmp_path, *TEN, "c/0.jpg", "d/0.jpg", "d/1.jpg", "notes.txt")
    data = open_training_data(config(root), 7, None)
    assert Counter(file[0] for file in data.val.files) == {"a": 2, "b": 2, "d": 1}
    assert sorted(data.train.files + data.val.files) == sorted([*TEN, "c/0.jpg", "d/0.jpg", "d/1.jpg"])
    assert open_training_data(config(root), 7, None).val.files == data.val.files
    assert open_training_data(config(root), 8, None).val.files != data.val.files
    assert open_training_data(config(root, 0.2), 7, None).fingerprint == data.fingerprint, "the same as when it is said"


@pytest.mark.parametrize(
    "unclear",
    [".git/", ".ipynb_checkpoints/x.jpg", "test_images/1.jpg", "val2017/1.jpg", "my-tests/1.jpg", "a/train/1.jpg", "b/Val/1.jpg"],
)
def test_a_hidden_folder_or_one_that_may_be_a_split_is_not_passed_over_in_silence(tmp_path: Path, unclear: str) -> None:
    root = make(tmp_path, *TEN, unclear)
    named = {"a/train/1.jpg": "a/train/", "b/Val/1.jpg": "b/Val/"}.get(unclear, f"{unclear.partition('/')[0]}/")
    reason = f" (it is not set by itself here, as {named} may be no class)"
    assert problems(config(root), 0, None) == (f"data.val_fraction: not set, but {root} has no val/; set data.val_fraction=0.1{reason}",)


@pytest.mark.parametrize("name", ["Train", "valid", "TEST", "training"])
def test_splits_of_other_names_are_refused_as_before(tmp_path: Path, name: str) -> None:
    root = make(tmp_path, *TEN, f"{name}/a/1.jpg")
    assert f"has {name}/ but no train/" in problems(config(root), 0, None)[0]


def test_names_that_only_begin_like_a_split_are_classes(tmp_path: Path) -> None:
    root = make(tmp_path, "trainers/1.jpg", "trainers/2.jpg", "valley/1.jpg", "valley/2.jpg", "attest/1.jpg", "latest/1.jpg", ".DS_Store")
    assert open_training_data(config(root), 0, None).classes.names == ("attest", "latest", "trainers", "valley")


@pytest.mark.slow
def test_training_says_what_it_holds_out_and_goes_on_though_the_folder_is_not_flat_any_more(tmp_path: Path) -> None:
    """An editor makes hidden folders meanwhile: what was held out is written in the run."""
    root = tmp_path / "photos"
    for number in range(6):
        for name in "ab":
            save(make_image(number + 10 * (name == "b")), root / f"{name}/{number}.jpg")
    save(make_image(99), root / "c/0.jpg")
    arguments = (write_recipe(tmp_path, root), f"run.dir={tmp_path}/runs", "mixup.prob=0")
    first = run("train.py", *arguments, "train.epochs=1")
    assert first.returncode == 0, first.stderr
    held_out = (
        f"data.root: {root} holds class folders alone: 20% of each class, drawn by seed 5, are held out for validation; "
        "data.val_fraction=0.1 holds out another share"
    )
    assert first.stderr.splitlines().count(held_out) == 1
    assert "warning: 1 class has one image, which stays in training (c); " in first.stderr
    (root / ".cache").mkdir()
    second = run("train.py", *arguments, "train.epochs=2")
    assert second.returncode == 0, second.stderr
    assert "continues in epoch 2" in second.stderr
    assert "holds class folders alone" not in second.stderr
    refused = run("train.py", *arguments, "train.epochs=3", "data.val_fraction=0.1")
    assert "made with another recipe: data.val_fraction: 0.2 -> 0.1" in refused.stderr
