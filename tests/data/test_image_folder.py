"""Layouts, class maps and natural order, on folders of empty files: nothing is opened."""

import os
import random
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_trees import by_class, config, make, problems
from hypothesis import given
from hypothesis import strategies as st

from hw1.config.recipe import DataConfig
from hw1.data.image_folder import open_training_data, open_unlabelled
from hw1.data.list_files import natural_key
from hw1.errors import UserError


def test_the_reports_layout(tmp_path: Path) -> None:
    """Integer folders in text order would be 0, 1, 10, 2: the label is the folder's own number."""
    make(
        tmp_path, *(f"{split}/{n}/{i}.jpg" for split in ("train", "val") for n in range(11) for i in (1, 2, 10)), "test/0.jpg", "README.md"
    )
    data = open_training_data(config(tmp_path), 0, None)
    assert data.classes.names == tuple(str(n) for n in range(11))
    assert data.classes.num_classes == 11
    for split, images in (("train", data.train), ("val", data.val)):
        assert images.root == tmp_path
        assert images.files == tuple(f"{split}/{n}/{i}.jpg" for n in range(11) for i in (1, 2, 10))
        assert images.labels is not None
        assert images.labels.dtype == np.int64
        assert all(Path(file).parent.name == str(label) for file, label in zip(images.files, images.labels, strict=True))
        assert images.path(3) == tmp_path / split / "1" / "1.jpg"
        assert len(images) == 33
        assert images.num_stray == 0


def test_integers_keep_their_number_across_gaps(tmp_path: Path) -> None:
    make(tmp_path, "train/007/a.jpg", "train/3/a.jpg", "val/007/b.jpg")
    data = open_training_data(config(tmp_path), 0, None)
    assert data.classes.names == ("", "", "", "3", "", "", "", "007")
    assert by_class(data.train) == {3: ["train/3/a.jpg"], 7: ["train/007/a.jpg"]}
    assert by_class(data.val) == {7: ["val/007/b.jpg"]}
    larger = open_training_data(config(tmp_path), 0, 10)
    assert larger.classes.names == (*data.classes.names, "", "")
    assert by_class(larger.train) == by_class(data.train)
    assert problems(config(tmp_path), 0, 7) == ("model.num_classes: the class 007 needs at least 8, got 7",)


def test_sparse_integers_count_as_names_unless_the_model_has_room(tmp_path: Path) -> None:
    """max + 1 may be 2 * folders + 10 at most."""
    make(tmp_path / "edge", "train/0/a.jpg", "train/13/a.jpg", "val/0/b.jpg")
    assert open_training_data(config(tmp_path / "edge"), 0, None).classes.num_classes == 14
    make(tmp_path / "over", "train/0/a.jpg", "train/14/a.jpg", "val/0/b.jpg")
    assert open_training_data(config(tmp_path / "over"), 0, None).classes.names == ("0", "14")
    make(tmp_path / "years", "train/2001/a.jpg", "train/14/a.jpg", "val/14/b.jpg")
    assert open_training_data(config(tmp_path / "years"), 0, None).classes.names == ("14", "2001")
    assert open_training_data(config(tmp_path / "years"), 0, 2).classes.names == ("14", "2001")
    roomy = open_training_data(config(tmp_path / "years"), 0, 3000)
    assert roomy.classes.num_classes == 3000
    assert by_class(roomy.train) == {14: ["train/14/a.jpg"], 2001: ["train/2001/a.jpg"]}
    make(tmp_path / "long", f"train/{'9' * 200}/a.jpg", f"train/{'8' * 200}/a.jpg", f"val/{'9' * 200}/a.jpg")
    assert open_training_data(config(tmp_path / "long"), 0, None).classes.names == ("8" * 200, "9" * 200)


def test_two_folders_of_one_integer(tmp_path: Path) -> None:
    make(tmp_path, "train/7/a.jpg", "train/07/a.jpg", "train/1/a.jpg", "val/7/a.jpg")
    assert problems(config(tmp_path), 0, None) == ("data.root: class folders 07 and 7 are the same integer",)


def test_named_classes(tmp_path: Path) -> None:
    """Natural order of any names; negative numbers and other digits are names."""
    names = ["-1", "10", "2", "Ähre", "cat 2", "cat 10", "cat\n3", "٣", "猫", "b" * 200, "~", "a'b\"c"]
    make(tmp_path, *(f"train/{name}/x.jpg" for name in names), *(f"val/{name}/x.jpg" for name in names))
    data = open_training_data(config(tmp_path), 0, None)
    assert sorted(data.classes.names) == sorted(names)
    assert data.classes.names.index("2") < data.classes.names.index("10")
    assert data.classes.names.index("cat 2") < data.classes.names.index("cat 10")
    assert data.train.labels is not None
    assert [Path(file).parts[1] for file in data.train.files] == [data.classes.names[label] for label in data.train.labels]
    assert problems(config(tmp_path), 0, 13) == ("model.num_classes: the data has 12 classes, got 13",)
    assert open_training_data(config(tmp_path), 0, 12).classes == data.classes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for split in (b"train", b"val"):
        for name in (b"caf\xe9", b"tea"):
            os.makedirs(os.fsencode(tmp_path) + b"/" + split + b"/" + name)
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + split + b"/" + name + b"/\xff.jpg")).touch()
    data = open_training_data(config(tmp_path), 0, None)
    assert len(data.train) == len(data.val) == 2
    assert len(data.fingerprint) == 64
    make(tmp_path, os.fsdecode(b"train/\xfe/"))
    assert problems(config(tmp_path), 0, None)[0].isprintable()


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8), unique=True))
def test_natural_order_is_the_same_from_any_start(names: list[str]) -> None:
    shuffled = names.copy()
    random.Random(0).shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


@given(st.lists(st.integers(0, 10**30), unique=True), st.sampled_from(["", "img_", "图 "]), st.sampled_from([".jpg", "b"]))
def test_natural_order_follows_the_numbers(numbers: list[int], before: str, after: str) -> None:
    names = [f"{before}{n}{after}" for n in sorted(numbers)]
    assert sorted(sorted(names), key=natural_key) == names


def test_natural_order_of_paths() -> None:
    wanted = ["B.jpg", "a/2/1.jpg", "a/10/1.jpg", "a01/10.jpg", "a1/9.jpg", "a1/10.jpg", "a2.jpg", "a b/1.jpg"]
    assert sorted(sorted(wanted), key=natural_key) == wanted
    assert len({natural_key(name) for name in ("a1", "a01", "a001")}) == 3  # never equal, so the order is never the disk's


def test_strays_are_passed_over_and_counted(tmp_path: Path) -> None:
    make(
        tmp_path,
        "train/cat/a.jpg", "train/cat/deep/er/b.JPeG", "train/cat/c.TIF", "train/dog/d.webp", "val/cat/e.png",
        "train/cat/.DS_Store", "train/cat/Thumbs.db", "train/cat/notes.txt", "train/cat/._a.jpg", "train/cat/.hidden/f.jpg",
        "train/cat/jpg", "train/cat/x.jpg.part", "train/loose.jpg", "train/.git/g.jpg", "train/__MACOSX/._a.jpg", "val/.DS_Store",
    )  # fmt: skip
    data = open_training_data(config(tmp_path), 0, None)
    assert data.classes.names == ("cat", "dog")
    assert data.train.files == ("train/cat/a.jpg", "train/cat/c.TIF", "train/cat/deep/er/b.JPeG", "train/dog/d.webp")
    assert data.train.num_stray == 10
    assert data.val.num_stray == 1


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path / "store", "1.jpg", "sub/2.jpg")
    make(tmp_path / "data", "train/a/0.jpg", "train/b/0.jpg", "val/a/0.jpg")
    train = tmp_path / "data" / "train"
    (train / "c").symlink_to(tmp_path / "store")
    (train / "a" / "up").symlink_to(train)  # would bring the images of b into a
    (train / "a" / "self").symlink_to(train / "a")
    (train / "a" / "knot.jpg").symlink_to(train / "a" / "knot.jpg")
    (train / "a" / "gone.jpg").symlink_to("nowhere")
    (train / "a" / "gone").symlink_to("nowhere")
    (tmp_path / "store" / "sub" / "back").symlink_to(tmp_path / "store")
    os.mkfifo(train / "b" / "pipe.jpg")
    data = open_training_data(config(tmp_path / "data"), 0, None)
    assert by_class(data.train) == {
        0: ["train/a/0.jpg", "train/a/gone.jpg", "train/a/knot.jpg"],  # dangling links are images that cannot be read
        1: ["train/b/0.jpg"],
        2: ["train/c/1.jpg", "train/c/sub/2.jpg"],
    }
    assert data.train.num_stray == 5
    assert len(data.fingerprint) == 64


def test_unlabelled(tmp_path: Path) -> None:
    make(tmp_path / "test", "10.jpg", "2.jpg", "1.PNG", "Thumbs.db", "more/3.jpg")
    images = open_unlabelled(tmp_path / "test")
    assert images.files == ("1.PNG", "2.jpg", "10.jpg")
    assert images.labels is None
    assert images.num_stray == 2
    assert images.path(2) == tmp_path / "test" / "10.jpg"
    assert images.subset([2, 0]).files == ("10.jpg", "1.PNG")
    assert images.subset([2, 0]).labels is None
    make(tmp_path, "classes/a/1.jpg", "classes/b/1.jpg", "empty/", "file")
    for name, message in (
        ("classes", "no images, only folders (a, b)"),
        ("empty", "empty: no images;"),
        ("tset", f"tset: no such folder; did you mean {tmp_path / 'test'}?"),
        ("file", "file: not a folder"),
    ):
        with pytest.raises(UserError) as caught:
            open_unlabelled(tmp_path / name)
        assert message in str(caught.value)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path, "d/train/a/1.jpg", "d/train/b/1.jpg", "d/val/a/1.jpg")
    assert len(open_training_data(DataConfig(root="~/d"), 0, None).train) == 2
    assert open_unlabelled(Path("~/d/train/a")).path(0).exists()


def test_validation_may_lack_classes(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg", "val/a/", "val/left over/")
    data = open_training_data(config(tmp_path), 0, None)
    assert by_class(data.val) == {2: ["val/c/1.jpg"]}


def test_photographs(photos: Path) -> None:
    data = open_training_data(config(photos), 118, None)
    assert (len(data.train), len(data.val), data.classes.num_classes) == (4565, 651, 100)
    assert data.classes.names == tuple(map(str, range(100)))
    for images in (data.train, data.val):
        assert all(int(Path(file).parts[1]) == label for file, label in zip(images.files, images.labels, strict=True))
    test = open_unlabelled(photos / "test")
    assert len(test) == 1304
    assert all(int(Path(a).stem) < int(Path(b).stem) for a, b in pairwise(test.files))
