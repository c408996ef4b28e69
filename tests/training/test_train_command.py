"""Whole runs by the real commands: a finished run's folder, its evaluation, the same bits after kill -9, a golden curve."""

import csv
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.killed_runs import assert_killed_run_ends_like
from helpers.paths import ROOT
from helpers.train_commands import newest_state, rows_without_times, run, write_recipe
from safetensors.torch import load_file

import validate
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.utils.own_command import hw1_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 training, 100 validation and 100 test images."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes(root, 2)
    return root


@pytest.fixture(scope="module")
def recipe(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), data)


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """The run folder of one uninterrupted run."""
    result = run("train.py", recipe)
    assert result.returncode == 0, result.stderr
    return recipe.parent / "runs" / "tiny" / "seed5"


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, but for the lock, which is touched by being looked at."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_run_folder_is_complete(finished: Path, data: Path) -> None:
    for name in (
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "metrics.csv",
        "curves.png",
        "samples.png",
        "summary.json",
        "val_predictions.npz",
    ):
        assert (finished / name).stat().st_size > 0, name
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    keys = {"train_loss", "train_acc", "val_loss", "val_top1", "val_top5", "lr", "images_per_second", "data_wait", "seconds"}
    assert keys < set(rows[0])
    assert all(0 < row["data_wait"] < 1 for row in rows)
    with open(finished / "metrics.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(line["val_loss"]) for line in table] == [row["val_loss"] for row in rows]
    env = json.loads((finished / "env.json").read_text())
    assert (env["num_train"], env["num_val"], env["num_classes"]) == (200, 100, 100)
    saved = np.load(finished / "val_predictions.npz", allow_pickle=False)
    shifted = saved["logits"] - saved["logits"].max(1, keepdims=True).astype(np.float64)
    nll = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(100), saved["labels"]]
    assert nll.mean() == pytest.approx(rows[-1]["val_loss"], rel=1e-6)
    assert (saved["logits"].argmax(1) == saved["labels"]).mean() == pytest.approx(rows[-1]["val_top1"])
    assert all((data / file).is_file() for file in saved["files"])


def test_checkpoints_hold_what_they_promise(finished: Path) -> None:
    state = torch.load(newest_state(finished), weights_only=True)
    assert state["progress"]["epoch"] == 2
    assert state["progress"]["updates"] == 2 * 4  # 7 batches an epoch in windows of 2: four optimizer steps
    assert state["classes"] == [str(label) for label in range(100)]
    weights = load_file(finished / "checkpoints" / "best.safetensors")
    assert set(weights) == set(state["model"])
    assert sum(group["params"].__len__() for group in state["optimizer"]["param_groups"]) < len(list(state["model"]))


def test_finished_run_says_so_and_stays_untouched(finished: Path, recipe: Path) -> None:
    before = contents(finished)
    result = run("train.py", recipe)
    assert result.returncode == 0
    assert "finished already" in result.stdout
    assert "--overwrite" in result.stdout
    assert contents(finished) == before


def test_killed_run_ends_bit_identical(finished: Path, recipe: Path, tmp_path: Path) -> None:
    """kill -9 in the second epoch, then the same command to the end; `tests/faults` kills at many more moments."""
    arguments = (recipe, f"run.dir={tmp_path}", "data.num_workers=2", "checkpoint.every_steps=1")
    folder = tmp_path / "tiny" / "seed5"
    assert_killed_run_ends_like(finished, folder, tmp_path / "out.txt", arguments)
    assert (folder / "checkpoints" / "best.safetensors").read_bytes() == (finished / "checkpoints" / "best.safetensors").read_bytes()


def test_changed_recipe_is_refused_with_the_difference(finished: Path, recipe: Path) -> None:
    before = contents(finished)
    result = run("train.py", recipe, "optim.lr=0.5", "train.epochs=3")
    assert result.returncode == 2
    assert "optim.lr: 0.001 -> 0.5" in result.stderr
    assert "train.epochs" not in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(finished) == before


def test_validate_equals_the_logged_numbers(finished: Path) -> None:
    result = run("validate.py", finished)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((finished / "eval" / "val" / "metrics.json").read_text())
    row = rows_without_times(finished)[metrics["epoch"] - 1]
    assert (metrics["top1"], metrics["top5"], metrics["loss"]) == (row["val_top1"], row["val_top5"], row["val_loss"])
    with open(finished / "eval" / "val" / "per_class.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 100
    assert sum(int(line["support"]) for line in table) == 100
    written = {path.name for path in (finished / "eval" / "val").iterdir()}
    tables = {"per_class.csv", "confused.csv", "worst.csv", "metrics.json", "calibration.json", "predictions.npz"}
    assert written == tables | {"confusion.png", "calibration.png", "confused.png", "worst.png", "attention.png", "index.html"}


def test_the_fitted_temperature_is_used_for_its_own_weights_only(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "seed5"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("eval"))
    result = run("validate.py", copy, "--temperature", "fitted")
    assert result.returncode == 2
    assert f"none was fitted for these weights; {hw1_command()} validate RUN_DIR does, with --checkpoint as here" in result.stderr
    (copy / "eval/val").mkdir(parents=True)
    (copy / "eval/val/calibration.json").write_text("{")
    assert run("validate.py", copy).returncode == 0, "what it is about to write anew must not stop it"
    before = json.loads((copy / "eval/val/calibration.json").read_text())
    assert run("validate.py", copy, "--temperature", "fitted").returncode == 0
    metrics = json.loads((copy / "eval/val/metrics.json").read_text())
    assert (metrics["temperature"], metrics["loss"]) == (before["temperature"], before["in_sample"]["nll"])
    assert json.loads((copy / "eval/val/calibration.json").read_text()) == before
    result = run("validate.py", copy, "--temperature", "fitted", "--checkpoint", "last")
    assert result.returncode == 2
    assert "none was fitted for these weights" in result.stderr


def test_temperature_must_be_a_number_above_0(finished: Path) -> None:
    for text in ("0", "-1", "nan", "inf", "hot"):
        with pytest.raises(UserError, match=f"^--temperature: must be fitted or a number above 0, got {text}$"):
            validate.parse([str(finished), f"--temperature={text}"])
    assert validate.parse([str(finished), "--temperature", "1.5"]).temperature == 1.5


def test_last_and_average_are_other_weights(finished: Path) -> None:
    losses = {}
    for checkpoint in ("last", "ema"):
        result = run("validate.py", finished, "--checkpoint", checkpoint)
        assert result.returncode == 0, result.stderr
        losses[checkpoint] = json.loads((finished / "eval" / "val" / "metrics.json").read_text())["loss"]
    assert losses["last"] != losses["ema"]
    assert losses["ema"] == rows_without_times(finished)[-1]["val_loss"]  # what training validates is the average


def test_submission_has_every_image_once_in_natural_order(finished: Path, data: Path) -> None:
    result = run("validate.py", finished, "--split", "test")
    assert result.returncode == 0, result.stderr
    folder = finished / "eval" / "test"
    lines = (folder / "prediction.csv").read_text().splitlines()
    assert lines[0] == "image_name,pred_label"
    names = [line.split(",")[0] for line in lines[1:]]
    assert names == sorted(path.stem for path in (data / "test").glob("*.jpg"))
    assert {line.split(",")[1] for line in lines[1:]} <= {str(label) for label in range(100)}
    with zipfile.ZipFile(folder / "submission.zip") as archive:
        assert archive.namelist() == ["prediction.csv"]
        assert archive.read("prediction.csv") == (folder / "prediction.csv").read_bytes()
    sure = confidence_by_name(folder)
    assert list(sure) == names
    run("validate.py", finished, "--split", "test", "--temperature", "5")
    assert (folder / "prediction.csv").read_text().splitlines() == lines
    assert all(0.01 <= calmer < sure[name] <= 1 for name, calmer in confidence_by_name(folder).items())


def confidence_by_name(folder: Path) -> dict[str, float]:
    with open(folder / "confidence.csv") as file:
        return {line["image_name"]: float(line["confidence"]) for line in csv.DictReader(file)}


def test_folder_of_images_is_predicted_with_checks(finished: Path, data: Path, tmp_path: Path) -> None:
    images = tmp_path / "some images"
    images.mkdir()
    source = sorted((data / "test").glob("*.jpg"))
    for name in ("a10.jpg", "a2.jpg", "a2.png"):
        (images / name).write_bytes(source[0].read_bytes())
    result = run("validate.py", finished, "--split", images)
    assert result.returncode == 2
    assert "share the name 'a2'" in result.stderr
    (images / "bad.jpg").write_bytes(source[0].read_bytes()[:300])
    result = run("validate.py", finished, "--split", images, "--full-names")
    assert result.returncode == 2
    assert "bad.jpg" in result.stderr
    assert not list((finished / "eval").glob("*some images*"))
    result = run("validate.py", finished, "--split", images, "--full-names", "--skip-bad")
    assert result.returncode == 0, result.stderr
    [out] = (finished / "eval").glob("*some images*")
    lines = (out / "prediction.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["a2.jpg", "a2.png", "a10.jpg"]
    assert len({line.split(",")[1] for line in lines[1:]}) == 1  # one image under three names


def test_debug_recipe_trains_its_golden_curve(tmp_path: Path) -> None:
    """A short loss curve as it was when it was right; the tolerance covers other processors and versions, not other arithmetic."""
    overrides = [
        f"run.dir={tmp_path / 'runs'}",
        f"data.root={tmp_path / 'data'}",
        "train.epochs=4",
        "train.amp=off",
        "optim.lr=3e-3",
        "mixup.alpha=1",
        "mixup.prob=1",
    ]
    result = run("train.py", ROOT / "recipes" / "debug.yaml", *overrides)
    assert result.returncode == 0, result.stderr
    losses = [row["train_loss"] for row in rows_without_times(tmp_path / "runs" / "debug" / "seed118")]
    assert losses == pytest.approx(GOLDEN, rel=1e-3), losses


GOLDEN = [4.63666, 4.61472, 4.61530, 4.55340]
