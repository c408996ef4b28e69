"""Folders that are refused, and in which words: missing, of no known layout, unreadable."""

import os
from pathlib import Path

import pytest
from helpers.folder_trees import config, make, problems

from hw1.config.recipe import DataConfig


def test_root_that_is_not_there(tmp_path: Path) -> None:
    make(tmp_path, "photos/train/a/1.jpg", "file.jpg", "void/")
    (line,) = problems(DataConfig(), 0, None)
    assert line.startswith("data.root: not set; add data.root=FOLDER")
    assert problems(config(tmp_path / "fotos"), 0, None) == (
        f"data.root: {tmp_path / 'fotos'}: no such folder; did you mean {tmp_path / 'photos'}?",
    )
    assert problems(config(tmp_path / "qqq" / "x"), 0, None) == (f"data.root: {tmp_path / 'qqq' / 'x'}: no such folder",)
    assert problems(config(tmp_path / "file.jpg"), 0, None) == (f"data.root: {tmp_path / 'file.jpg'}: not a folder",)
    assert problems(config(tmp_path / "void", 0.1), 0, None) == (f"data.root: {tmp_path / 'void'}: no images in class folders",)


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    two = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")

    def split(name: str) -> list[str]:
        return [f"{name}/{file}" for file in two]

    both = make(tmp_path / "both", *split("train"), *split("val"))
    assert problems(config(both, 0.1), 0, None) == (f"data.val_fraction: {both} has its own val/; leave it null, or take val/ away",)
    trained = make(tmp_path / "trained", *split("train"))
    assert problems(config(trained), 0, None) == (f"data.val_fraction: not set, but {trained} has no val/; set data.val_fraction=0.1",)
    other = make(tmp_path / "other", *split("train"), *split("valid"))
    assert problems(config(other), 0, None)[0].endswith("(or rename valid/ to val/)")
    for name in ("Training", "test", "validation"):
        root = make(tmp_path / f"only-{name}", *split(name), *two)
        assert f"has {name}/ but no train/" in problems(config(root, 0.1), 0, None)[0]
    outer = make(tmp_path / "outer", *split("inner/train"), *split("inner/val"))
    assert problems(config(outer, 0.1), 0, None)[0].endswith(f"did you mean {outer / 'inner'}?")
    single = make(tmp_path / "single", "a/1.jpg", "a/2.jpg")
    assert "only one class folder, a;" in problems(config(single, 0.5), 0, None)[0]
    flat = make(tmp_path / "flat", "train/1.jpg", "val/1.jpg")
    assert problems(config(flat), 0, None) == (f"data.root: {flat / 'train'}: no images in class folders",)
    unvalidated = make(tmp_path / "unvalidated", *split("train"), "val/")
    assert problems(config(unvalidated), 0, None) == (f"data.root: {unvalidated / 'val'}: no images for validation",)
    alone = make(tmp_path / "alone", "a/1.jpg", "b/1.jpg")
    assert problems(config(alone, 0.5), 0, None) == (f"data.root: {alone}: no images for validation",)


def test_all_problems_at_once(tmp_path: Path) -> None:
    make(
        tmp_path,
        "train/a/1.jpg",
        "train/b/",
        "train/c/notes.txt",
        "train/d/1.jpg",
        "val/a/1.jpg",
        "val/b/1.jpg",
        "val/x/1.jpg",
        "val/y/1.jpg",
    )
    lines = problems(config(tmp_path, 0.1), 0, 3)
    for wanted in (
        "data.val_fraction: ",
        f"data.root: {tmp_path}/train/b: class folder without images",
        f"data.root: {tmp_path}/train/c: class folder without images",
        f"data.root: {tmp_path}/val/x: class unknown to training",
        f"data.root: {tmp_path}/val/y: class unknown to training",
        "model.num_classes: the data has 4 classes, got 3",
    ):
        assert sum(line.startswith(wanted) for line in lines) == 1, wanted
    assert len(lines) == 6


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    (tmp_path / "train/b").chmod(0)
    try:
        assert problems(config(tmp_path), 0, None) == (f"{tmp_path}/train/b: cannot be read: permission denied",)
    finally:
        (tmp_path / "train/b").chmod(0o755)


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert problems(config(tmp_path), 0, None) == (f"{tmp_path}/train/b: cannot be read: permission denied",)
