"""Layouts, class maps, natural order, splits and what is refused, on folders of empty files: nothing is opened."""

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw1.config import DataConfig
from hw1.data.folders import ClassMap, ImageSet, TrainingData, open_split, open_training_data, open_unlabelled
from hw1.data.listing import natural_key
from hw1.errors import UserError


def make(root: Path, *files: str) -> Path:
    """Empty files; a name that ends in / is an empty folder."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def config(root: Path, val_fraction: float | None = None) -> DataConfig:
    return DataConfig(root=str(root), val_fraction=val_fraction)


def problems(*args: object) -> tuple[str, ...]:
    """The lines of the error that opening with these arguments raises."""
    with pytest.raises(UserError) as caught:
        open_training_data(*args)
    assert caught.value.problems
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def by_class(images: ImageSet) -> dict[int, list[str]]:
    assert images.labels is not None
    return {
        label: [f for f, x in zip(images.files, images.labels, strict=True) if x == label] for label in sorted(set(images.labels.tolist()))
    }


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
    assert problems(config(tmp_path), 0, 7) == ("model.num_classes: the class folder 007 needs at least 8, got 7",)


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
    make(tmp_path, *(f"{name}/{i}.jpg" for name in ("x", "ÿ") for i in range(20)))
    code = (
        "import sys; from hw1.config import DataConfig; from hw1.data.folders import open_training_data; import hw1.data.decode\n"
        f"data = open_training_data(DataConfig(root={str(tmp_path)!r}, val_fraction=0.25), 5, None)\n"
        "assert 'torch' not in sys.modules\nprint(data.fingerprint)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, cwd=Path(__file__).parents[1])
    assert out.stdout.strip() == open_training_data(config(tmp_path, 0.25), 5, None).fingerprint


def test_fingerprint(tmp_path: Path) -> None:
    """Names, sizes and labels count; place and dates do not."""
    prints = []
    for place in ("one", "two"):
        make(tmp_path / place, *(f"{split}/{n}/{i}.jpg" for split in ("train", "val") for n in "01" for i in range(3)))
        prints.append(open_training_data(config(tmp_path / place), 0, None).fingerprint)
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


def test_fingerprint_tells_labels_and_splits_apart(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match=r"^data\.val_fraction: not set"):
        open_split(tmp_path / "b", "val", data.classes, config(tmp_path / "b"), 9)


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


def test_subset(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{i}.jpg" for name in "ab" for i in range(4)))
    train = open_training_data(config(tmp_path, 0.25), 0, None).train
    part = train.subset(np.array([4, 0]))
    assert part.files == (train.files[4], train.files[0])
    assert part.labels.tolist() == [1, 0]
    assert len(train.subset([])) == 0
    assert train.subset([]).labels.dtype == np.int64


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


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path, "d/train/a/1.jpg", "d/train/b/1.jpg", "d/val/a/1.jpg")
    assert len(open_training_data(DataConfig(root="~/d"), 0, None).train) == 2
    assert open_unlabelled(Path("~/d/train/a")).path(0).exists()


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    two = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")

    def split(name: str) -> list[str]:
        return [f"{name}/{file}" for file in two]

    both = make(tmp_path / "both", *split("train"), *split("val"))
    assert problems(config(both, 0.1), 0, None) == (f"data.val_fraction: {both} has its own val/; leave it null, or take val/ away",)
    for root in (make(tmp_path / "neither", *two), make(tmp_path / "trained", *split("train"))):
        assert problems(config(root), 0, None) == (f"data.val_fraction: not set, but {root} has no val/; set data.val_fraction=0.1",)
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
    found = problems(config(tmp_path, 0.1), 0, 3)
    for wanted in (
        "data.val_fraction: ",
        f"data.root: {tmp_path}/train/b: class folder without images",
        f"data.root: {tmp_path}/train/c: class folder without images",
        f"data.root: {tmp_path}/val/x: class unknown to training",
        f"data.root: {tmp_path}/val/y: class unknown to training",
        "model.num_classes: the data has 4 classes, got 3",
    ):
        assert sum(line.startswith(wanted) for line in found) == 1, wanted
    assert len(found) == 6


def test_validation_may_lack_classes(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg", "val/a/", "val/left over/")
    data = open_training_data(config(tmp_path), 0, None)
    assert by_class(data.val) == {2: ["val/c/1.jpg"]}


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


def test_photographs(photos: Path) -> None:
    data = open_training_data(config(photos), 118, None)
    assert (len(data.train), len(data.val), data.classes.num_classes) == (4565, 651, 100)
    assert data.classes.names == tuple(map(str, range(100)))
    for images in (data.train, data.val):
        assert all(int(Path(file).parts[1]) == label for file, label in zip(images.files, images.labels, strict=True))
    test = open_unlabelled(photos / "test")
    assert len(test) == 1304
    assert all(int(Path(a).stem) < int(Path(b).stem) for a, b in pairwise(test.files))
