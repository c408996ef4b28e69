"""Splits by fraction and by a checkpoint, fingerprints, subsets, on folders of empty files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_trees import by_class, config, make
from helpers.paths import ROOT

from hw1.data.image_folder import ClassMap, ImageSet, TrainingData, open_split, open_training_data
from hw1.data.list_files import natural_key
from hw1.errors import UserError


@pytest.mark.parametrize("inside", ["", "train/"])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_split_by_fraction(tmp_path: Path, inside: str, fraction: float) -> None:
    counts = {"one": 1, "two": 2, "ten": 10, "many": 57}
    everything = [f"{inside}{name}/{i}.jpg" for name, n in counts.items() for i in range(n)]
    make(tmp_path, *everything, f"{inside}one/.DS_Store")
    data = open_training_data(config(tmp_path, fraction), 3, None)
    assert sorted((*data.train.files, *data.val.files)) == sorted(everything)
    assert data.train.num_stray + data.val.num_stray == 1
    for name, n in counts.items():
        wanted = 0 if n == 1 else min(max(round(fraction * n), 1), n - 1)
        label = data.classes.labels[name]
        assert (data.val.labels == label).sum() == wanted
        assert (data.train.labels == label).sum() == n - wanted
    for images in (data.train, data.val):
        assert list(images.files) == sorted(images.files, key=natural_key)
        assert all(f"{inside}{data.classes.names[x]}" == str(Path(f).parent) for f, x in zip(images.files, images.labels, strict=True))


def test_split_depends_on_the_seed_and_not_on_other_classes(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{i}.jpg" for name in "bd" for i in range(40)))
    first = open_training_data(config(tmp_path, 0.3), 1, None)
    assert open_training_data(config(tmp_path, 0.3), 1, None).val.files == first.val.files
    assert open_training_data(config(tmp_path, 0.3), 2, None).val.files != first.val.files
    chosen = [{Path(f).name for f in files} for files in by_class(first.val).values()]
    assert chosen[0] != chosen[1]
    make(tmp_path, *(f"{name}/{i}.jpg" for name in "ac" for i in range(9)))
    more = open_training_data(config(tmp_path, 0.3), 1, None)
    assert [f for f in more.val.files if f[0] in "bd"] == list(first.val.files)


def test_split_is_the_same_in_another_process(tmp_path: Path) -> None:
    """And nothing here imports torch."""
    root = make(tmp_path / "data", *(f"{name}/{i}.jpg" for name in ("x", "ÿ") for i in range(20)))
    code = (
        "import sys; from hw1.config.recipe import DataConfig\n"
        "from hw1.data.image_folder import open_training_data; import hw1.data.decode\n"
        f"data = open_training_data(DataConfig(root={str(root)!r}, val_fraction=0.25), 5, None)\n"
        "assert 'torch' not in sys.modules\nprint(data.fingerprint)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, cwd=ROOT)
    assert out.stdout.strip() == open_training_data(config(root, 0.25), 5, None).fingerprint


def test_fingerprint(tmp_path: Path) -> None:
    """Names, sizes and labels count; the folder's location and dates do not."""
    prints = []
    for name in ("one", "two"):
        make(tmp_path / name, *(f"{split}/{n}/{i}.jpg" for split in ("train", "val") for n in "01" for i in range(3)))
        prints.append(open_training_data(config(tmp_path / name), 0, None).fingerprint)
    assert prints[0] == prints[1]
    two = tmp_path / "two"
    os.utime(two / "train/0/0.jpg", (1, 1))

    def now(num_classes: int | None = None) -> str:
        return open_training_data(config(two), 0, num_classes).fingerprint

    assert now() == prints[0]
    seen = {prints[0], now(5)}
    (two / "val/1/2.jpg").write_bytes(b"x")
    seen.add(now())
    (two / "val/1/2.jpg").rename(two / "val/1/3.jpg")
    seen.add(now())
    (two / "val/1/3.jpg").rename(two / "val/0/3.jpg")
    seen.add(now())
    (two / "val/0/3.jpg").rename(two / "train/0/3.jpg")
    seen.add(now())
    assert len(seen) == 6


def test_fingerprint_depends_on_labels_and_splits(tmp_path: Path) -> None:
    make(tmp_path, "0.jpg", "1.jpg", "2.jpg")

    def images(*files: str, label: int = 0) -> ImageSet:
        return ImageSet(tmp_path, files, np.full(len(files), label), 0)

    classes = ClassMap(("a", "b"))
    variants = [
        TrainingData(images("0.jpg", "1.jpg"), images("2.jpg"), classes),
        TrainingData(images("0.jpg"), images("1.jpg", "2.jpg"), classes),
        TrainingData(images("0.jpg", "1.jpg", label=1), images("2.jpg"), classes),
        TrainingData(images("0.jpg", "1.jpg"), images("2.jpg", label=1), classes),
    ]
    assert len({data.fingerprint for data in variants}) == 4


def test_split_of_a_checkpoint(tmp_path: Path) -> None:
    """The same images and labels again, by the checkpoint's classes, wherever the data now lies."""
    make(tmp_path / "a", *(f"{n}/{i}.jpg" for n in "357" for i in range(8)))
    data = open_training_data(config(tmp_path / "a", 0.25), 9, None)
    (tmp_path / "a").rename(tmp_path / "b")
    for split, wanted in (("val", data.val), ("train", data.train)):
        again = open_split(tmp_path / "b", split, data.classes, config(tmp_path / "a", 0.25), 9)
        assert again.files == wanted.files
        assert np.array_equal(again.labels, wanted.labels)
    make(tmp_path / "c", "train/z/0.jpg", "train/y/0.jpg", "val/z/0.jpg", "val/w/", "extra/y/1.jpg")
    reversed_map = ClassMap(("z", "", "y"))
    assert open_split(tmp_path / "c", "val", reversed_map, config(tmp_path / "c"), 0).labels.tolist() == [0]
    assert open_split(tmp_path / "c", "extra", reversed_map, config(tmp_path / "c"), 0).labels.tolist() == [2]
    with pytest.raises(UserError) as caught:
        open_split(tmp_path / "c", "train", ClassMap(("a", "b")), config(tmp_path / "c"), 0)
    assert caught.value.problems == tuple(f"data.root: {tmp_path / 'c' / 'train' / n}: class unknown to the checkpoint" for n in "yz")
    for split, message in (("nosuch", "no such folder"), ("test", "no images in class folders")):
        make(tmp_path / "c", "test/1.jpg")
        with pytest.raises(UserError, match=message):
            open_split(tmp_path / "c", split, reversed_map, config(tmp_path / "c"), 0)
    assert len(open_split(tmp_path / "b", "val", data.classes, config(tmp_path / "b"), 9)) == 6, "of a flat folder, without a fraction"
    make(tmp_path / "b", "test2/0.jpg")
    with pytest.raises(UserError, match=r"^data\.val_fraction: not set"):
        open_split(tmp_path / "b", "val", data.classes, config(tmp_path / "b"), 9)


def test_subset(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{i}.jpg" for name in "ab" for i in range(4)))
    train = open_training_data(config(tmp_path, 0.25), 0, None).train
    part = train.subset(np.array([4, 0]))
    assert part.files == (train.files[4], train.files[0])
    assert part.labels.tolist() == [1, 0]
    assert len(train.subset([])) == 0
    assert train.subset([]).labels.dtype == np.int64
