"""hw1 folds on drawn images with planted copies; training is a stand-in that knows 3 of 4 images."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.plan_runs import STAND_IN_FILE, make_project
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from hw1.audit.__main__ import main as audit
from hw1.data.synthetic import CLASS_NAMES, draw_image
from hw1.errors import run_command
from hw1.evaluation.predictions import load_predictions
from hw1.folds import __main__ as folds
from hw1.utils.own_command import hw1_command

FOLDER = Path("runs/tiny-folds")
STAND_IN = """
import json, os, sys, zlib
import numpy as np
from hw1.config.load import load_recipe
from hw1.data.image_folder import open_training_data
from hw1.evaluation.predictions import Predictions
from hw1.runs.folder import RunFolder
from hw1.runs.status import NUMBERS, run_status, start_folder


def main(argv, prog=None):
    recipe = load_recipe(argv[0], argv[1:])
    run = RunFolder.of(recipe)
    if os.path.exists("stop") and recipe.data.fold == 1:
        sys.exit(3)
    data = open_training_data(recipe.data, recipe.seed, None)
    with open("started.jsonl", "a") as file:
        file.write(json.dumps([recipe.data.fold, data.train.files, data.val.files]) + "\\n")
    start_folder(run, recipe, fresh=True)
    answers = [(label + (zlib.crc32(file.encode()) % 4 == 0)) % 4 for file, label in zip(data.val.files, data.val.labels)]
    logits = 5 * np.eye(4, dtype=np.float32)[answers]
    predictions = Predictions(np.arange(len(answers)), logits, data.val.labels)
    predictions.save(run.val_predictions, files=data.val.files, class_names=data.classes.names)
    run.write_metrics([dict.fromkeys(NUMBERS, 0.5) | {"epoch": 1}])
    run.state_file(1, 0).write_text("state")
    run.write_json(run.summary, {"epochs": 1, "stopped_early": False})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four classes of twelve images in train/ and two in val/; of the first of each class a smaller copy of lower quality in val/."""
    folder = tmp_path / "project"
    make_project(folder)
    shutil.rmtree(folder / "data")
    (folder / STAND_IN_FILE).write_text(STAND_IN)
    rng = np.random.default_rng(0)
    for label in (0, 33, 57, 82):
        for split, count in (("train", 12), ("val", 2)):
            place = folder / "data" / split / CLASS_NAMES[label]
            place.mkdir(parents=True)
            for number in range(count):
                assert cv2.imwrite(str(place / f"{number}.jpg"), draw_image(label, 96, rng))
        image = cv2.imread(str(folder / f"data/train/{CLASS_NAMES[label]}/0.jpg"))
        copy = str(folder / f"data/val/{CLASS_NAMES[label]}/copy.jpg")
        assert cv2.imwrite(copy, cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 70])
    (folder / "tiny.yaml").write_text("data: {root: data}\ntrain: {epochs: 1}\nsched: {warmup_epochs: 0}\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    return folder


def call(*arguments: str) -> int:
    return run_command(folds.main, arguments)


def table() -> list[dict[str, str]]:
    return list(csv.DictReader((FOLDER / "folds.csv").read_text().splitlines()))


@pytest.mark.slow
def test_every_image_is_predicted_by_the_run_that_never_saw_it_or_a_copy_of_it(project, capsys):
    assert call("tiny.yaml", "--k", "3") == 0
    rows = table()
    files = [path.relative_to("data").as_posix() for path in Path("data").rglob("*.jpg")]
    assert sorted(row["image"] for row in rows) == sorted(files)
    fold_of = {row["image"]: int(row["fold"]) for row in rows}
    for name in {row["label"] for row in rows}:
        assert fold_of[f"train/{name}/0.jpg"] == fold_of[f"val/{name}/copy.jpg"]
        assert {row["group"] for row in rows if row["image"] in (f"train/{name}/0.jpg", f"val/{name}/copy.jpg")} == {f"train/{name}/0.jpg"}
    started = [json.loads(line) for line in Path("started.jsonl").read_text().splitlines()]
    for fold, train, val in started:
        assert {fold_of[file] for file in val} == {fold}
        assert sorted(train + val) == sorted(files)
        assert not set(train) & set(val)
    right = sum(row["predicted"] == row["label"] for row in rows)
    result = json.loads((FOLDER / "folds.json").read_text())
    assert (result["num_images"], result["num_right"]) == (len(files), right)
    assert (result["low"], result["high"]) == pytest.approx(proportion_confint(right, len(files), method="wilson"))
    per_fold = [np.mean([row["predicted"] == row["label"] for row in rows if row["fold"] == str(fold)]) for fold in range(3)]
    assert result["per_fold"] == pytest.approx(per_fold)
    low, high = np.clip(stats.t.interval(0.95, 2, np.mean(per_fold), stats.sem(per_fold)), 0, 1)
    assert (result["over_folds"]["low"], result["over_folds"]["high"]) == pytest.approx((low, high))
    out = capsys.readouterr().out
    assert f"top-1 {right / len(files):.4f}" in out
    assert out.endswith(f"next: {hw1_command()} audit data --folds {FOLDER}\n")
    assert "hw1 report" not in out  # its comparisons would be of different images


@pytest.mark.slow
def test_a_run_that_fails_is_trained_by_the_same_command_with_the_same_folds(project):
    Path("stop").touch()
    assert call("tiny.yaml", "--k", "3") == 3
    drawn = (FOLDER / "folds.csv").read_bytes()
    Path("stop").unlink()
    assert call("tiny.yaml", "--k", "3") == 0
    assert [json.loads(line)[0] for line in Path("started.jsonl").read_text().splitlines()] == [0, 2, 1]
    assert [row["fold"] for row in table()] == [line.split(",")[1] for line in drawn.decode().splitlines()[1:]]
    assert call("tiny.yaml", "--k", "3") == 0
    assert len(Path("started.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_groups_of_a_table_stay_together_and_the_audit_reads_the_predictions(project, capsys):
    files = sorted(path.relative_to("data").as_posix() for path in Path("data/train").rglob("*.jpg"))
    lines = [f"{file},{file.split('/')[1]},p{number % 20}" for number, file in enumerate(files)]
    Path("labels.csv").write_text("\n".join(["path,species,patient", *lines, "val/" + files[0].split("/")[1] + "/1.jpg,,"]) + "\n")
    assert call("tiny.yaml", "data.labels=labels.csv", "--group", "patient", "--k", "4", "--dry-run") == 0
    assert not Path("started.jsonl").exists()
    rows = table()
    assert [row["image"] for row in rows if not row["label"]] == ["val/" + files[0].split("/")[1] + "/1.jpg"]
    for group in range(20):
        members = {files[number] for number in range(group, len(files), 20)}
        assert len({row["fold"] for row in rows if row["image"] in members}) == 1
    Path("labels.csv").write_text("\n".join(["path,species,patient", *lines]) + "\n")
    assert call("tiny.yaml", "data.labels=labels.csv", "run.name=other", "--group", "patient", "--k", "4") == 0
    joined = load_predictions(Path("runs/other-folds/out_of_fold.npz"))
    assert sorted(joined.files) == files
    command = capsys.readouterr().out.splitlines()[-1].removeprefix(f"next: {hw1_command()} audit ")
    assert command == "data --labels runs/other-folds/folds.csv --folds runs/other-folds"
    assert audit(command.split()) in (0, 1)
    suspects = json.loads(Path("audit/audit.json").read_text())["suspects"]
    wrong = joined.predictions.logits.argmax(axis=1) != joined.predictions.labels
    assert suspects["num_pictures"] == len(files)
    assert {item["file"] for item in suspects["labels"]} <= {file for file, is_wrong in zip(joined.files, wrong, strict=True) if is_wrong}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--k", "1"], "--k: at least 2, got 1"),
        (["--k", "99"], "--k 99: there are only 56 groups of images"),
        (["--group", "patient"], "--group: names a column of data.labels, which is not set; folders have no groups"),
        (
            ["data.dataset=torch/cifar10"],
            "data.dataset: folds are made of image folders or of data.labels",
        ),
        (["data.root=nowhere"], "data.root: nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line(project, capsys, arguments, line):
    assert call("tiny.yaml", *arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_folds_of_other_images_are_not_continued(project, capsys):
    assert call("tiny.yaml", "--k", "3", "--dry-run") == 0
    assert call("tiny.yaml", "--k", "4", "--dry-run") == 2
    next(Path("data/train").rglob("5.jpg")).unlink()
    capsys.readouterr()
    assert call("tiny.yaml", "--k", "3", "--dry-run") == 2
    line = "runs/tiny-folds/folds.csv: of other images, other labels or another --k; run.name=NAME makes new folds\n"
    assert capsys.readouterr().err == line
