"""What train.py looks for in the data before it starts, and that it starts all the same."""

import shutil
import time
from pathlib import Path

import pytest
from helpers.audit_images import clean_root, make_image, save
from helpers.train_commands import run, write_recipe

from hw1.config.recipe import DataConfig
from hw1.data.image_folder import TrainingData, open_training_data
from hw1.data.leak_check import describe_faults, find_equal_files
from hw1.errors import RunError
from hw1.utils.own_command import hw1_command


def opened(root: Path) -> TrainingData:
    return open_training_data(DataConfig(root=str(root)), 0, None)


def copy(data: TrainingData) -> list[tuple[str, str]]:
    return [(data.train.files[a], data.val.files[b]) for a, b in find_equal_files(data)]


def test_nothing_is_said_of_clean_data(tmp_path):
    assert describe_faults(opened(clean_root(tmp_path))) == ""


def test_equal_files_and_missing_classes_are_one_line_with_the_command(tmp_path):
    root = clean_root(tmp_path / "my data")
    shutil.copy(root / "train/b/3.jpg", root / "val/a/x.jpg")
    shutil.copy(root / "train/b/3.jpg", root / "val/b/y.jpg")
    shutil.copy(root / "train/a/1.jpg", root / "val/a/z.jpg")
    for name in ("c", "d", "e"):
        save(make_image(ord(name)), root / f"train/{name}/0.jpg")
    assert describe_faults(opened(root)) == (
        "warning: 3 of 11 validation images are in training too (val/a/x.jpg is train/b/3.jpg; val/a/z.jpg is train/a/1.jpg, ...), "
        f"and 3 classes have no validation image (c, d, ...); {hw1_command()} audit '{root}' shows all"
    )


def test_files_of_one_size_are_compared_whole(tmp_path):
    """They agree at both ends and in the middle, or only in size."""
    for number, changed in enumerate((0, 20_000, 60_000, 99_999)):
        data = bytearray(100_000)
        data[changed] = 1
        path = tmp_path / f"train/{'ab'[number % 2]}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, source in (("a", "train/a/2.jpg"), ("b", "")):
        path = tmp_path / f"val/{name}/0.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes((tmp_path / source).read_bytes() if source else bytes(99_998) + b"\2\2")
    assert copy(opened(tmp_path)) == [("train/a/2.jpg", "val/a/0.jpg")]


def test_files_that_cannot_be_read_are_no_copies(tmp_path):
    root = clean_root(tmp_path)
    for split in ("train", "val"):
        (root / split / "a/gone.jpg").symlink_to(root / "nowhere.jpg")
        (root / split / "a/empty.jpg").touch()
    assert copy(opened(root)) == []


def test_real_photographs_are_checked_in_a_moment(photos):
    data = opened(photos)
    assert data.digests
    started = time.process_time()
    assert describe_faults(data) == ""
    assert time.process_time() - started < 2


@pytest.mark.parametrize("num", [1, 2])
def test_each_validation_file_is_named_once(tmp_path, num):
    root = clean_root(tmp_path)
    for number in range(num):
        shutil.copy(root / "train/a/0.jpg", root / f"train/b/copy{number}.jpg")
    shutil.copy(root / "train/a/0.jpg", root / "val/a/copy.jpg")
    assert copy(opened(root)) == [("train/a/0.jpg", "val/a/copy.jpg")]


def test_training_warns_in_one_line_and_goes_on(tmp_path, monkeypatch):
    def went_on(*args):
        raise RunError("went on to the loaders")

    root = clean_root(tmp_path / "data")
    shutil.copy(root / "train/b/3.jpg", root / "val/a/x.jpg")
    monkeypatch.setattr("hw1.training.setup.build_train_loader", went_on)
    result = run("train.py", write_recipe(tmp_path, root))
    assert result.stderr.splitlines()[-2:] == [
        f"warning: 1 of 9 validation images are in training too (val/a/x.jpg is train/b/3.jpg); {hw1_command()} audit {root} shows all",
        "went on to the loaders",
    ]
