"""Images and labels from a table: what is opened, by which columns, and what is refused before anything is read."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_trees import config as folder_config
from helpers.folder_trees import make, problems
from sklearn.model_selection import StratifiedKFold

from hw1.config.load import load_recipe
from hw1.config.recipe import DataConfig
from hw1.data.image_folder import find_split, open_training_data
from hw1.data.image_set import ImageSet
from hw1.data.label_columns import close_labels, read_labels
from hw1.data.list_files import natural_key
from hw1.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(
        tmp_path / "photos", *(f"{name}/{i}.jpg" for name in ("cats", "dogs") for i in range(10)), *(f"test/t{i}.jpg" for i in range(3))
    )


def table(root: Path, header: Sequence[str], rows: Sequence[Sequence[object]], **keys: object) -> DataConfig:
    path = root.parent / "labels.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return DataConfig.model_validate({"root": str(root), "labels": str(path), **keys})


def rows_of(root: Path, *more: str) -> list[list[object]]:
    """A row for each cat and dog."""
    return [[f"{name}/{i}", name[:3], *more] for name in ("cats", "dogs") for i in range(10)]


def lines(found: Sequence[str], config: DataConfig) -> list[str]:
    """Problems without the file that they all name."""
    assert all(str(config.labels) in line for line in found)
    return [line.replace(f"data.labels: {config.labels}", "").lstrip(",: ") for line in found]


def labels(images: ImageSet) -> list[int]:
    assert images.labels is not None
    return images.labels.tolist()


@pytest.mark.parametrize("names", [("0", "1", "7"), ("01", "02", "10"), ("ants", "Bees", "wasps")])
@pytest.mark.parametrize("fraction", [None, 0.4])
def test_a_table_of_a_folder_is_the_folder(tmp_path, names, fraction):
    """The same images, split, labels, classes and fingerprint, so that all else is the same too."""
    root = make(tmp_path / "d", *(f"{name}/{i}.jpg" for name in names for i in range(12)))
    folder = open_training_data(folder_config(root, fraction or 0.2), 5, None)
    files = [f"{name}/{i}.jpg" for name in sorted(names, key=natural_key) for i in range(12)]
    config = table(root, ["path", "class"], [[file, file.split("/")[0]] for file in files], val_fraction=fraction)
    listed = open_training_data(config, 5, None)
    assert listed.fingerprint == folder.fingerprint
    assert (listed.val.files, listed.classes) == (folder.val.files, folder.classes)
    for name in ("train", "val"):
        images, _ = find_split(name, config, folder.classes, 5)
        assert images.files == getattr(folder, name).files
        assert labels(images) == labels(getattr(folder, name))
    split = table(root, ["path", "class", "set"], [[f, f.split("/")[0], "Validation" if f in folder.val.files else "TRAIN"] for f in files])
    assert open_training_data(split, 9, None).fingerprint == folder.fingerprint


def test_only_listed_images_are_used_and_in_the_order_of_the_table(tmp_path):
    root = make(tmp_path / "d", *(f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in "ab" for i in range(5)))
    rows = [[f"{split}/{name}/{i}", name] for split in ("train", "val") for name in "ab" for i in range(3)]
    random.Random(1).shuffle(rows)
    data = open_training_data(table(root, ["id", "label"], rows, val_fraction=0.5), 1, None)
    listed = [f"{row[0]}.jpg" for row in rows]
    assert sorted((*data.train.files, *data.val.files)) == sorted(listed)
    for images in (data.train, data.val):
        assert list(images.files) == [file for file in listed if file in images.files]


def test_folds_are_validated_on_one_by_one(root):
    """With the folds of scikit-learn."""
    rows = rows_of(root)
    target = [row[1] for row in rows]
    for fold, (_, held_out) in enumerate(StratifiedKFold(4, shuffle=True, random_state=0).split(target, target)):
        for position in held_out:
            rows[position].append((str(fold), f"{fold}.0", f"0{fold}", f" {fold}.")[fold])
    rows += [[f"test/t{i}", "", ""] for i in range(3)]
    seen: list[str] = []
    for fold in range(4):
        config = table(root, ["image_id", "label", "kfold"], rows, fold=fold)
        assert close_labels(config, 1)[0].val_fraction is None
        data = open_training_data(config, 1, None)
        assert not set(data.train.files) & set(data.val.files)
        assert len(data.train) + len(data.val) == 20
        assert set(data.val.files) == {f"{row[0]}.jpg" for row in rows if row[2] and int(float(row[2])) == fold}
        seen += data.val.files
    assert len(set(seen)) == len(seen) == 20
    assert problems(config.model_copy(update={"fold": 4}), 1, None) == (
        f"data.fold: no fold 4: {config.labels}: column kfold has 0, 1, 2, 3",
    )


def test_a_label_of_more_digits_than_a_number_may_have_is_a_name(root):
    config = table(root, ["id", "label"], [[f"cats/{i}", "9" * 5000 if i % 2 else "1"] for i in range(10)])
    assert open_training_data(config, 1, None).classes.names == ("1", "9" * 5000)


def test_no_group_is_on_both_sides(root):
    rows = [[*row, f"{row[1]}{position // 2}"] for position, row in enumerate(rows_of(root))]
    config = table(root, ["image", "label", "patient_id"], rows)
    data = open_training_data(config, 3, None)
    group = {f"{row[0]}.jpg": row[2] for row in rows}
    assert not {group[file] for file in data.train.files} & {group[file] for file in data.val.files}
    assert np.bincount(labels(data.val)).tolist() == [2, 2]
    assert open_training_data(config.model_copy(update={"group_column": "none"}), 3, None).val.files != data.val.files


def test_a_class_of_one_group_stays_in_training(root):
    config = table(root, ["image", "label", "group"], [[*row, row[1]] for row in rows_of(root)])
    [problem] = problems(config, 1, None)
    assert problem.endswith("no images for validation: each class is one group; data.group_column=none does without")


def test_rows_without_a_label_are_test_images(root):
    rows = [*rows_of(root), *([f"t{i}", " " * i] for i in range(3))]
    config = table(root, ["id", "target"], rows)
    data = open_training_data(config, 1, None)
    test, name = find_split("test", config, data.classes, 1)
    assert (name, test.files, test.labels) == ("test", ("test/t0.jpg", "test/t1.jpg", "test/t2.jpg"), None)
    with pytest.raises(UserError, match=r"^--split: dev: neither a folder nor a split of .*labels\.csv: train, val, test$"):
        find_split("dev", config, data.classes, 1)
    with pytest.raises(UserError, match="no test images; rows without a label are"):
        find_split("test", table(root, ["id", "target"], rows_of(root)), data.classes, 1)


def test_test_images_may_have_labels_if_all_have(root):
    rows = [[*row, "train"] for row in rows_of(root)] + [["t0", "dog", "test"], ["t1", "cat", "test"]]
    config = table(root, ["id", "label", "split"], rows)
    classes = open_training_data(config, 1, None).classes
    test, _ = find_split("test", config, classes, 1)
    assert (test.files, labels(test)) == (("test/t0.jpg", "test/t1.jpg"), [1, 0])
    with pytest.raises(UserError, match=r"1 of 3 test images have no label \(line 24\); give one to all or to none"):
        find_split("test", table(root, ["id", "label", "split"], [*rows, ["t2", "", "test"]]), classes, 1)
    with pytest.raises(UserError, match=r"line 22: class cow is unknown to the checkpoint"):
        find_split("test", table(root, ["id", "label", "split"], [*rows[:20], ["t0", "cow", "test"]]), classes, 1)


def test_every_problem_is_listed_with_its_lines(root):
    rows = [*rows_of(root)]
    rows[2][0], rows[3][0], rows[4][0], rows[5][0] = "cats/99", "../x.jpg", "", rows[1][0]
    rows[12][1], rows[13][1] = "dog ", "Dog"
    config = table(root, ["image", "label"], rows)
    assert lines(problems(config, 1, None), config) == [
        f"line 4: cats/99: no such image in {root}",
        f"line 5: ../x.jpg: lies outside of data.root, {root}",
        "line 6: no file name",
        "lines 3, 7: all name cats/1.jpg",
        "one label in 3 forms: 'dog' (8 rows) and 'Dog' (line 15) and 'dog ' (line 14); write it in one",
    ]


def test_very_many_problems_are_some_lines(root):
    rows = [[f"gone{i}", "cat"] for i in range(500)]
    found = problems(table(root, ["image", "label"], rows), 1, None)
    assert len(found) == 21
    assert found[-1].endswith("480 more missing images")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cat", "Cat"),
        ("cat", "cat "),
        ("1", "1.0"),
        ("1", "01"),
        ("0", "0.0"),
        ("sea lion", "sea  lion"),
        ("\u00e9", "e\u0301"),
        ("1.0", "1"),
    ],
)
def test_a_label_in_two_forms_is_refused(root, first, second):
    rows = [["cats/0", first], ["cats/1", first], ["cats/2", second], ["dogs/0", "other"], ["dogs/1", "other"]]
    config = table(root, ["image", "label"], rows)
    [problem] = lines(problems(config, 1, None), config)
    assert problem == f"one label in 2 forms: {first!a} (2 rows) and {second!a} (line 4); write it in one"


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (("a", "A"), ("A", "a")),
        (("0.0", "3.0"), ("0", "", "", "3")),
        (("0", "3"), ("0", "", "", "3")),
        (("007", "010"), ("", "", "", "", "", "", "", "007", "", "", "010")),
        (("1.5", "2.5"), ("1.5", "2.5")),
        (("10", "9a"), ("9a", "10")),
        (("100000", "7"), ("7", "100000")),
    ],
)
def test_labels_that_differ_are_classes(root, written, names):
    rows = [[f"{name}/{i}", label] for name, label in zip(("cats", "dogs"), written, strict=True) for i in range(5)]
    assert open_training_data(table(root, ["image", "label"], rows), 1, None).classes.names == names


def test_a_label_that_is_no_text_is_refused_and_a_file_is_not(tmp_path):
    root = make(tmp_path / "photos", "\udce9.jpg", "b.jpg", "c.jpg", "d.jpg")
    config = DataConfig(root=str(root), labels=str(tmp_path / "labels.csv"))
    Path(config.labels).write_bytes(b"file,label\n\xe9.jpg,0\nb.jpg,0\nc.jpg,1\nd.jpg,1\n")
    assert "\udce9.jpg" in {*(data := open_training_data(config, 1, None)).train.files, *data.val.files}
    Path(config.labels).write_bytes(b"file,label\nb.jpg,\xe9\nc.jpg,b\n")
    assert lines(problems(config, 1, None), config) == ["line 2: label '\\udce9' is not printable text in UTF-8"]


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        (["image_id", "label"], {"file": "image_id", "label": "label"}),
        (["id", "filename", "Class"], {"file": "filename", "label": "Class"}),
        (["Image Path", "label", "label_name", "Set"], {"file": "Image Path", "label": "label", "split": "Set"}),
        (["img", "species", "patient ID"], {"file": "img", "label": "species", "group": "patient ID"}),
        (["image", "target", "fold"], {"file": "image", "label": "target"}),
    ],
)
def test_columns_are_found_by_their_usual_names(root, header, roles):
    config = table(root, header, [["x"] * len(header)])
    _, closed = read_labels(config)
    expected = {role: roles.get(role, "none") for role in ("file", "label", "split", "group")}
    assert {role: getattr(closed, f"{role}_column") for role in expected} == expected
    assert closed.fold_column is None


def test_a_column_that_is_named_is_no_other_one(root):
    _, closed = read_labels(table(root, ["image", "label", "class"], [["x"] * 3], group_column="class"))
    assert (closed.label_column, closed.group_column) == ("label", "class")


@pytest.mark.parametrize(
    ("header", "keys", "message"),
    [
        (["a", "b"], {}, "data.file_column: {}: none of its columns has a usual name (a, b); set data.file_column=NAME"),
        (["a.jpg", "class"], {}, "(a.jpg, class); set data.file_column=NAME; its first line must name the columns"),
        (["file", "path", "label"], {}, "data.file_column: {}: is it file or path? set data.file_column=NAME"),
        (["file", "label", "label"], {}, "data.label_column: {}: several columns 'label'"),
        (
            ["file", "label"],
            {"fold": 0},
            "data.fold_column: {}: none of its columns has a usual name (file, label); set data.fold_column=NAME",
        ),
        (["file", "label"], {"label_column": "lable"}, "data.label_column: {}: no column 'lable'; nearest: label; it has file, label"),
    ],
)
def test_absent_and_ambiguous_columns_name_the_key_to_set(root, header, keys, message):
    config = table(root, header, [["x"] * len(header)], **keys)
    with pytest.raises(UserError) as caught:
        read_labels(config)
    assert caught.value.problems[0].endswith(message.format(config.labels))


@pytest.mark.parametrize(
    ("rows", "keys", "message"),
    [
        ([["cats/0", "cat", "trian"]], {}, "data.split_column: {}, line 2: 'trian' in split is not train, val or test"),
        ([["cats/0", "", "train"]], {}, "data.labels: {}, line 2: no label, but split says train"),
        ([["cats/0", "cat", ""]], {}, "data.labels: {}, line 2: a label, but nothing in split"),
        ([["cats/0", "cat", "val"]], {}, "data.labels: {}: no row to train on has a label"),
        ([["cats/0", "cat", "train"]], {}, "data.labels: {}: only one class, cat; two are needed"),
        (
            [["cats/0", "cat", "train"], ["dogs/0", "dog", "train"], ["dogs/1", "cow", "val"]],
            {},
            "data.labels: {}, line 4: class cow is unknown to training",
        ),
        (
            [["cats/0", "cat", "train"], ["dogs/0", "dog", "val"]],
            {"val_fraction": 0.1},
            "data.val_fraction: split of {} has validation images; leave it null",
        ),
        (
            [["cats/0", "cat", "x"]],
            {"fold": 0, "fold_column": "split", "split_column": "none"},
            "column split, line 2: 'x' is no number of a fold",
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(root, rows, keys, message):
    config = table(root, ["file", "label", "split"], rows, **keys)
    assert any(line.endswith(message.format(config.labels)) for line in problems(config, 1, None)), problems(config, 1, None)


def test_a_name_that_fits_two_files_is_refused(root):
    config = table(root, ["file", "label"], [["3", "cat"], ["dogs/4", "dog"]])
    assert lines(problems(config, 1, None), config) == ["line 2: 3 may be cats/3.jpg or dogs/3.jpg"]


def test_what_was_found_is_said_in_one_line_and_kept(root):
    config = table(root, ["image_id", "breed", "patient"], [[*row, position] for position, row in enumerate(rows_of(root))])
    closed, said = close_labels(config, 118)
    assert (closed.file_column, closed.label_column, closed.split_column, closed.group_column) == ("image_id", "breed", "none", "patient")
    assert closed.val_fraction == 0.2
    assert said == [
        f"data.labels: {config.labels}: columns file = image_id, label = breed, group = patient (by name; data.file_column=NAME takes "
        "another); about 20% of each class, drawn by seed 118, are held out for validation, each patient on one side"
    ]
    assert close_labels(closed, 118) == (closed, [])
    assert open_training_data(closed, 118, None).fingerprint == open_training_data(config, 118, None).fingerprint


@pytest.mark.parametrize(("column", "keys"), [("split", {}), ("fold", {"fold": 1})])
def test_groups_that_the_file_has_on_both_sides_are_said(root, column, keys):
    rows = [
        [*row, position % 2 if column == "fold" else ("train", "val")[position % 2], position // 2]
        for position, row in enumerate(rows_of(root))
    ]
    rows[0][3] = rows[2][3] = "alone"
    config = table(root, ["image", "label", column, "patient"], rows, **keys)
    _, said = close_labels(config, 1)
    assert said[1:] == [f"warning: {config.labels}: 8 of 10 patient in validation are in training too (2, 3 and 6 more)"]
    for row in rows:
        row[3] = ""
    assert len(close_labels(table(root, ["image", "label", column, "patient"], rows, **keys), 1)[1]) == 1


def test_the_fingerprint_is_of_the_labels_and_not_of_the_file(root):
    first = open_training_data(table(root, ["image", "label"], rows_of(root)), 1, None).fingerprint
    renamed = table(root, ["file", "unused", "class"], [[f"{row[0]}.jpg", "", row[1]] for row in rows_of(root)])
    assert open_training_data(renamed, 1, None).fingerprint == first
    changed = rows_of(root)
    changed[0][1], changed[10][1] = "dog", "cat"
    assert open_training_data(table(root, ["image", "label"], changed), 1, None).fingerprint != first


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data.fold=1", "data.fold: means nothing without data.labels"),
        ("data.label_column=x", "data.label_column: means nothing without data.labels"),
        ("data.labels=x.csv data.dataset=torch/dtd", "data.labels: data.dataset has labels of its own"),
        ("data.labels=x.csv data.generate=3", "data.generate: draws a folder with labels of its own"),
        ("data.labels=x.csv data.fold_column=x", "data.fold_column: means nothing without data.fold"),
        ("data.labels=x.csv data.fold=1 data.val_fraction=0.2", "data.val_fraction: data.fold says which images to validate on"),
        ("data.labels=x.csv data.label_column=none", "data.label_column: none is for columns that are not needed"),
        ("data.labels=x.csv data.label_column=x data.file_column=x", "data.label_column: x is named twice"),
        ("data.labels=x.csv data.lable_column=x", "data.lable_column: unknown key; nearest: data.label_column"),
    ],
)
def test_keys_that_do_not_go_together(overrides, message):
    with pytest.raises(UserError) as caught:
        load_recipe("debug", ["data.generate=0", *overrides.split()])
    [problem] = caught.value.problems
    assert problem.startswith(f"command line: {message}")
