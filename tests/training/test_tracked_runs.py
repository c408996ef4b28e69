"""Whole runs with wandb and TensorBoard: what a user finds, read back by the clients' own readers, also after a kill."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tensorboard_files import events, scalars
from helpers.train_commands import assert_equal, command, newest_state, run
from helpers.wandb_files import Recorded, recorded
from PIL import Image

from hw1.errors import run_command
from hw1.evaluation.metrics import log_softmax
from hw1.evaluation.predictions import load_predictions
from hw1.predict.__main__ import main as predict
from hw1.runs.checkpoint import load_state
from hw1.runs.folder import RunFolder

TRACKED = ("log.wandb=offline", "log.to=[tensorboard]", "log.upload=[metrics, images, model]", "log.media_every=2", "train.epochs=3")
STEPS = ("train/loss_step", "lr", "grad_norm")
EPOCHS = ("train/loss", "train/accuracy", "val/loss", "val/top1", "val/top5", "val/macro_f1", "val/balanced_accuracy")
SPEED = ("perf/images_per_second", "perf/data_wait", "perf/epoch_seconds")


@pytest.fixture(scope="module")
def tracked(recipe: Path) -> RunFolder:
    """A run from its beginning to its end; it is only read."""
    result = run("train.py", recipe, *TRACKED)
    assert result.returncode == 0, result.stderr
    (recipe.parent / "said.txt").write_text(result.stderr)
    return RunFolder(recipe.parent / "runs/tiny/seed5")


@pytest.fixture(scope="module")
def part(tracked: RunFolder) -> Recorded:
    (part,) = recorded(tracked)
    return part


def rows(tracked: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tracked.metrics_jsonl.read_text().splitlines()]


def test_an_epoch_has_its_numbers_in_groups_and_metrics_csv_its_old_names(tracked: RunFolder, part: Recorded) -> None:
    told = [entry for entry in part.history if "val/top1" in entry]
    assert [entry["epoch"] for entry in told] == [1, 2, 3]
    for entry, row in zip(told, rows(tracked), strict=True):
        assert {key for key in entry if not key.startswith("_")} == {*EPOCHS, *SPEED, "epoch"}
        pairs = (
            ("train/loss", "train_loss"),
            ("val/top1", "val_top1"),
            ("val/macro_f1", "val_macro_f1"),
            ("perf/epoch_seconds", "seconds"),
        )
        assert [entry[name] for name, _ in pairs] == [row[key] for _, key in pairs]
    curves = scalars(tracked.tensorboard)
    assert curves["val/loss"] == [(row["epoch"], np.float32(row["val_loss"])) for row in rows(tracked)]
    assert set(curves) == {*EPOCHS, *SPEED, *STEPS}


def test_step_curves_are_the_loss_of_what_came_since_the_last_look(tracked: RunFolder, part: Recorded) -> None:
    """Of 100 images in batches of 30, two to an optimizer step: 60, then 40. Their mean is the epoch's."""
    told = [entry for entry in part.history if "train/loss_step" in entry]
    assert [entry["train/step"] for entry in told] == [1, 2, 3, 4, 5, 6]
    for epoch, row in enumerate(rows(tracked)):
        first, second = told[2 * epoch : 2 * epoch + 2]
        mean = 0.6 * first["train/loss_step"] + 0.4 * second["train/loss_step"]
        assert mean == pytest.approx(row["train_loss"], rel=1e-9)
        assert second["lr"] == row["lr"]
    norms = [entry["grad_norm"] for entry in told]
    assert all(norm > 0 for norm in norms)
    assert len(set(norms)) == 6
    curves = scalars(tracked.tensorboard)
    assert [step for step, _ in curves["grad_norm"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in curves["grad_norm"]] == [np.float32(norm) for norm in norms]


def test_config_says_what_the_recipe_came_to(tracked: RunFolder, part: Recorded) -> None:
    env = json.loads(tracked.env.read_bytes())
    assert part.config["optim"]["clip_grad"] == 5.0
    assert {key: value for key, value in env.items() if key != "wandb_id"} == part.config["resolved"]
    assert part.config["resolved"]["num_train"] == 100
    assert part.config["resolved"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert env["wandb_id"] == part.run.run_id


def test_summary_says_which_epoch_was_best_and_how_long_it_took(tracked: RunFolder, part: Recorded) -> None:
    summary = json.loads(tracked.summary.read_bytes())
    expected = {**{key: value for key, value in summary.items() if key != "seconds"}, "duration_seconds": summary["seconds"]}
    assert {key: part.summary[key] for key in expected} == expected
    assert "seconds" not in part.summary


def test_media_come_every_few_epochs_and_at_the_end(tracked: RunFolder, part: Recorded) -> None:
    for name in ("val/confusion_matrix", "val/calibration", "val/cbam"):
        assert [entry["epoch"] for entry in part.history if f"{name}.path" in entry] == [2, 3]
    assert [entry["epoch"] for entry in part.history if "samples.path" in entry] == [0]
    assert [entry["epoch"] for entry in part.history if "val/predictions.path" in entry] == [2, 3]
    (samples,) = [entry["samples.path"] for entry in part.history if "samples.path" in entry]
    (copy,) = tracked.path.glob(f"wandb/offline-run-*/files/{samples}")
    assert np.array_equal(np.asarray(Image.open(copy)), np.asarray(Image.open(tracked.samples)))
    written = events(tracked.tensorboard)
    for tag in ("val/confusion_matrix", "val/cbam", "val/predictions/text_summary", "val/predictions_images", "val/per_class/text_summary"):
        assert [step for name, step in written if name == tag] == [2, 3]


def test_the_table_of_predictions_is_worst_first_with_its_images(tracked: RunFolder, part: Recorded) -> None:
    table = [artifact for artifact in part.artifacts if "predictions" in artifact.name][-1]
    (content,) = [json.loads(Path(entry.local_path).read_bytes()) for entry in table.manifest.contents if entry.path.endswith("table.json")]
    predictions, files, names = load_predictions(tracked.val_predictions)
    losses = -log_softmax(predictions.logits)[np.arange(len(files)), predictions.labels]
    order = np.argsort(-losses, kind="stable")[:100]
    assert content["columns"] == ["image", "file", "true", "predicted", "confidence", "loss"]
    assert [row[1] for row in content["data"]] == [files[i] for i in order]
    assert [row[2] for row in content["data"]] == [names[predictions.labels[i]] for i in order]
    assert [row[5] for row in content["data"]] == pytest.approx([losses[i] for i in order])
    images = {entry.path: entry.local_path for entry in table.manifest.contents if entry.path.endswith(".jpg")}
    first = Image.open(images[content["data"][0][0]["path"]]).convert("RGB")
    original = Image.open(Path(tracked.read_recipe().data.root or "") / files[order[0]]).convert("RGB").resize(first.size)
    assert np.abs(np.asarray(first, float) - np.asarray(original, float)).mean() < 12  # JPEG of the same image


def test_the_best_weights_and_the_list_of_the_data_are_artifacts(tracked: RunFolder, part: Recorded) -> None:
    (model,) = [artifact for artifact in part.artifacts if artifact.type == "model"]
    (data,) = [artifact for artifact in part.artifacts if artifact.type == "dataset"]
    env, summary = json.loads(tracked.env.read_bytes()), json.loads(tracked.summary.read_bytes())
    metadata = json.loads(model.metadata)
    (file,) = model.manifest.contents
    assert Path(file.local_path).read_bytes() == tracked.best.read_bytes()
    assert model.name == "tiny-seed5"
    assert "best" in model.aliases
    assert ("last" in model.aliases) == (summary["best_epoch"] == 3)
    assert metadata["metrics"] == {"epoch": summary["best_epoch"], "val_top1": summary["best_top1"], "val_loss": summary["best_loss"]}
    assert len(metadata["classes"]) == 100
    assert metadata["preprocessing"]["size"] == 32
    assert metadata["data_fingerprint"] == env["fingerprint"] == json.loads(data.metadata)["fingerprint"]
    assert metadata["recipe"]["seed"] == 5
    (listed,) = [Path(entry.local_path).read_text().splitlines() for entry in data.manifest.contents if entry.path == "files.csv"]
    assert listed[0] == "split,label,digest,file"
    assert len(listed) == 1 + 100 + env["num_val"]
    assert any(entry.ref.startswith("file:///") for entry in data.manifest.contents)


def test_the_first_line_says_what_leaves_the_machine(tracked: RunFolder, recipe: Path) -> None:
    (line,) = [line for line in (recipe.parent / "said.txt").read_text().splitlines() if line.startswith("wandb: ")]
    assert line.endswith("; nothing leaves this machine before")
    for part in ("metrics, figures and console lines (about", "photographs of the data (about", "the best weights (about"):
        assert part in line


def test_trackers_change_no_bit_of_the_weights(tracked: RunFolder, recipe: Path, tmp_path: Path) -> None:
    result = run("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=3")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "tiny/seed5"
    a, b = load_state(newest_state(tracked.path)), load_state(newest_state(folder))
    assert_equal(a["model"], b["model"], but=())
    assert_equal(a["ema"], b["ema"], but=())
    assert_equal(a["optimizer"], b["optimizer"], but=())
    assert not (folder / "steps.jsonl").exists()


@pytest.mark.slow
def test_a_killed_run_has_every_step_and_epoch_once(tracked: RunFolder, recipe: Path, tmp_path: Path) -> None:
    """Killed in the second epoch, wherever it is; what TensorBoard and wandb's last file hold is what they hold of the whole run."""
    folder = RunFolder(tmp_path / "tiny/seed5")
    arguments = (recipe, f"run.dir={tmp_path}", *TRACKED, "checkpoint.every_steps=1")
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # this process' client would go on holding the run
    with open(os.devnull, "wb") as nothing:
        process = subprocess.Popen(command("train.py", *arguments), stdout=nothing, stderr=nothing, env=env)
    deadline = time.monotonic() + 180
    while not any(path.name >= "epoch0001" for path in folder.state_files()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    result = run("train.py", *arguments)
    assert result.returncode == 0, result.stderr
    expected, found = scalars(tracked.tensorboard), scalars(folder.tensorboard)
    assert {name: found[name] for name in (*STEPS, *EPOCHS)} == {name: expected[name] for name in (*STEPS, *EPOCHS)}
    assert [step for step, _ in found["perf/epoch_seconds"]] == [1, 2, 3]
    parts = {path.name.rpartition("-")[2] for path in folder.path.glob("wandb/offline-run-*")}
    assert len(parts) == 1
    newest = max(folder.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name)  # its time of start
    (whole,) = recorded(tracked)
    again = Recorded(newest)
    for names, axis in ((STEPS, "train/step"), (EPOCHS, "epoch")):
        curves = [
            [(row["_step"], row[axis], *(row[name] for name in names)) for row in part.history if names[0] in row]
            for part in (whole, again)
        ]
        assert len(curves[0]) == {"train/step": 6, "epoch": 3}[axis]
        assert curves[0] == curves[1]


@pytest.mark.slow
def test_an_evaluation_and_predictions_are_added_to_the_run(tracked: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(tracked.path, tmp_path / "runs/tiny/seed5")
    folder = RunFolder(tmp_path / "runs/tiny/seed5")
    before = set(folder.path.glob("wandb/offline-run-*"))
    result = run("validate.py", folder.path)
    assert result.returncode == 0, result.stderr
    images = Path(folder.read_recipe().data.root or "") / "val"
    with contextlib.redirect_stdout(io.StringIO()):
        assert run_command(predict, [str(folder.path), str(images)]) == 0
    metrics = json.loads((folder.eval_dir("val") / "metrics.json").read_bytes())
    new = sorted(set(folder.path.glob("wandb/offline-run-*")) - before)
    evaluated, predicted = (Recorded(next(path.glob("*.wandb"))) for path in new)
    (whole,) = recorded(tracked)
    assert {evaluated.run.run_id, predicted.run.run_id} == {whole.run.run_id}
    told = next(entry for entry in evaluated.history if "eval/val/top1" in entry)
    assert (told["eval/val/top1"], told["eval/val/loss"], told["epoch"]) == (metrics["top1"], metrics["loss"], metrics["epoch"])
    assert any("eval/val/confusion_matrix.path" in entry for entry in evaluated.history)
    assert any("predict/predictions.path" in entry for entry in predicted.history)
    assert min(entry["_step"] for entry in evaluated.history) > max(entry["_step"] for entry in whole.history)
    assert min(entry["_step"] for entry in predicted.history) > max(entry["_step"] for entry in evaluated.history)
    curves = scalars(folder.tensorboard)
    assert curves["eval/val/top1"] == [(metrics["epoch"], np.float32(metrics["top1"]))]
    assert curves["val/top1"] == scalars(tracked.tensorboard)["val/top1"]
