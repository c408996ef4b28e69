"""A run on images that a table lists, by the real commands: killed, continued, evaluated, submitted."""

import csv
import shutil
from pathlib import Path

import pandas
import pytest
from helpers.killed_runs import assert_killed_run_ends_like
from helpers.train_commands import run, write_recipe

from hw1.data.synthetic import draw_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 images of 100 classes, in a table in another order, with ids and names of their own; 10 more have no label."""
    folder = tmp_path_factory.mktemp("listed")
    draw_shapes(folder / "shapes", 2)
    rows = [[f"train/{path.parent.name}/{path.stem}", f"shape {path.parent.name}"] for path in (folder / "shapes/train").glob("*/*.jpg")]
    rows.sort(key=lambda row: row[0][::-1])
    rows += [[path.stem, ""] for path in sorted((folder / "shapes/test").glob("*.jpg"))[:10]]
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image_id", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def arguments(folder: Path) -> tuple[object, ...]:
    return write_recipe(folder, folder / "shapes"), f"data.labels={folder / 'labels.csv'}", "data.val_fraction=0.5"


@pytest.fixture(scope="module")
def finished(folder: Path, arguments: tuple[object, ...]) -> Path:
    result = run("train.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert "labels.csv: columns file = image_id, label = label (by name" in result.stderr
    return folder / "runs/tiny/seed5"


def test_a_killed_run_ends_bit_identical(finished, arguments, tmp_path):
    killed = (*arguments, f"run.dir={tmp_path}", "data.num_workers=1", "checkpoint.every_steps=1")
    assert_killed_run_ends_like(finished, tmp_path / "tiny/seed5", tmp_path / "out.txt", killed)


def test_changed_labels_are_changed_data_and_a_moved_table_is_not(finished, folder, arguments, tmp_path):
    """A run is continued with the columns that it began with."""
    moved, changed = tmp_path / "moved.csv", tmp_path / "changed.csv"
    shutil.copy(folder / "labels.csv", moved)
    lines = (folder / "labels.csv").read_text().splitlines()
    changed.write_text("\n".join([lines[0], lines[1].replace("shape", "form"), *lines[2:]]))
    shutil.copytree(finished, tmp_path / "runs/tiny/seed5")
    recipe, _, fraction = arguments
    results = [
        run("train.py", recipe, f"data.labels={path}", fraction, f"run.dir={tmp_path / 'runs'}", "train.epochs=3", "data.group_column=none")
        for path in (changed, moved)
    ]
    assert [result.returncode for result in results] == [2, 0], results[1].stderr
    assert f"trained on other classes than those in {changed} (" in results[0].stderr
    assert "continues in epoch 3" in results[1].stderr


def test_a_sample_submission_is_filled(finished, tmp_path):
    test = pandas.read_csv(finished.parents[2] / "labels.csv").query("label.isna()")["image_id"].astype(str).str.zfill(5)
    sample = tmp_path / "sample.csv"
    pandas.DataFrame({"Id": test[::-1], "Label": "shape 7"}).to_csv(sample, index=False)
    result = run("validate.py", finished, "--split", "test", "--sample-submission", sample)
    assert result.returncode == 0, result.stderr
    ours, plain = (pandas.read_csv(finished / "eval/test" / name, dtype=str, index_col=0) for name in ("submission.csv", "prediction.csv"))
    assert ours.index.tolist() == test[::-1].tolist()
    assert ours["Label"].to_dict() == plain["pred_label"].to_dict()
    assert (finished / "eval/test/submission.zip").is_file()
    sample.write_text(sample.read_text() + "nothing,shape 7\n")
    result = run("validate.py", finished, "--split", "test", "--sample-submission", sample)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "line 12: 1 id is none of the 10 images: nothing" in result.stderr


def test_mistakes_come_before_anything_is_written(folder, arguments, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text((folder / "labels.csv").read_text() + "gone,shape 1\n")
    for labels, message in ((bad, f"{bad}, line 212: gone: no such image in "), (tmp_path / "no.csv", "no.csv: no such file")):
        result = run("train.py", arguments[0], f"data.labels={labels}", f"run.dir={tmp_path / 'runs'}")
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert result.stderr.startswith("command line: data.labels: ")
        assert message in result.stderr
    assert not (tmp_path / "runs").exists()
