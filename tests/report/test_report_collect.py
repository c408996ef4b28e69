"""Which runs the report takes in, which it leaves out and why; what may be compared with what."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import ROOT, edit_json, write_run
from helpers.train_commands import run

from hw1.ablate.variants import VARIANTS
from hw1.errors import UserError
from hw1.report.collect import collect


def edit_arrays(path: Path, **changes) -> None:
    with np.load(path) as saved:
        arrays = dict(saved)
    np.savez(path, **(arrays | changes))


def edit_lines(path: Path, change) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def test_a_finished_run_is_read_whole(tmp_path):
    path = write_run(tmp_path, "plain", 10, num_images=50)
    write_run(tmp_path, "plain", 9, num_images=50)
    (tmp_path / "notes").mkdir()
    (tmp_path / "plain/seedling").mkdir()
    found = collect(tmp_path)
    assert [run.path for run in found.runs] == ["plain/seed9", "plain/seed10"]
    assert found.left_out == []
    run = found.runs[1]
    with np.load(path / "val_predictions.npz") as saved:
        right = [int(max(range(10), key=row.__getitem__)) == label for row, label in zip(saved["logits"], saved["labels"], strict=True)]
        assert run.files == tuple(saved["files"].tolist())
    assert run.correct.tolist() == right
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    assert sum(right) / 50 == run.last["val_top1"] == last["val_top1"]
    assert run.config == (path / "config.yaml").read_text()
    assert (run.recipe.seed, run.recipe.mixup.prob, run.env["cpu"]) == (10, 0.0, "Some CPU")
    assert math.isclose(run.minutes, 4 * 30 / 60)
    assert run.images_per_second == 102.5  # the median of 101 ... 104
    assert run.code == "commit 0123456789"
    assert run.hardware == "Some CPU, 2 cores"


def test_the_best_epoch_is_the_first_highest_with_the_lower_loss(tmp_path):
    path = write_run(tmp_path, "plain", 0)

    def change(rows):
        for row, top1, loss in zip(rows[:3], (0.9, 0.95, 0.95), (1.0, 0.8, 0.7), strict=True):
            row.update(val_top1=top1, val_loss=loss)
        return rows

    edit_lines(path / "metrics.jsonl", change)
    assert collect(tmp_path).runs[0].best["epoch"] == 3


DAMAGE = {
    "config.yaml: not": lambda run: (run / "config.yaml").write_text("seed: [1"),
    "no config.yaml": lambda run: (run / "config.yaml").unlink(),
    "config.yaml: optim.lrr: unknown key": lambda run: (run / "config.yaml").write_text("optim: {lrr: 1}"),
    "3 of 4 epochs; continued with more": lambda run: (
        edit_lines(run / "metrics.jsonl", lambda rows: rows[:3]),
        edit_json(run / "summary.json", epochs=3),
    ),
    "4 of 4 epochs; interrupted or still running": lambda run: (run / "summary.json").unlink(),
    "summary.json counts 5 epochs, metrics.jsonl 4": lambda run: edit_json(run / "summary.json", epochs=5),
    "summary.json: not readable": lambda run: (run / "summary.json").write_text("{"),
    "summary.json: lacks": lambda run: (run / "summary.json").write_text("{}"),
    "metrics.jsonl: line 2 is damaged": lambda run: (run / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo'),
    "metrics.jsonl: line 2 is of epoch 3": lambda run: edit_lines(run / "metrics.jsonl", lambda rows: rows[:1] + rows[2:]),
    "metrics.jsonl: line 1: no number for val_loss": lambda run: edit_lines(
        run / "metrics.jsonl", lambda rows: [row | {"val_loss": None} for row in rows]
    ),
    "no env.json": lambda run: (run / "env.json").unlink(),
    "env.json: lacks fingerprint": lambda run: (run / "env.json").write_text('{"cpu": "x"}'),
    "val_predictions.npz: no such file": lambda run: (run / "val_predictions.npz").unlink(),
    "val_predictions.npz: no readable file of predictions": lambda run: (run / "val_predictions.npz").write_bytes(
        (run / "val_predictions.npz").read_bytes()[:900]
    ),
    "val_predictions.npz: no readable file of predictions (Object": lambda run: edit_arrays(
        run / "val_predictions.npz", files=np.array(["x"] * 300, dtype=object)
    ),
    "do not match the logits": lambda run: edit_arrays(run / "val_predictions.npz", files=np.array(["x"])),
    "labels are no classes": lambda run: edit_arrays(run / "val_predictions.npz", labels=np.full(300, -1)),
    "those of the last epoch": lambda run: edit_arrays(run / "val_predictions.npz", logits=np.zeros((300, 10), np.float32)),
    "is of run plain, seed 0: moved or copied": lambda run: shutil.copytree(run, run.with_name("seed7")),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_run_that_cannot_be_trusted_is_left_out_with_the_reason(tmp_path, reason):
    write_run(tmp_path, "mixup", 0)
    DAMAGE[reason](write_run(tmp_path, "plain", 0))
    found = collect(tmp_path)
    (left_out,) = found.left_out
    assert reason in left_out.reason
    assert str(tmp_path) not in left_out.reason, "the run is named by its own path"
    assert left_out.status == ("unfinished" if "of 4 epochs" in reason else "damaged")
    assert left_out.path in ("plain/seed0", "plain/seed7")
    assert left_out.path not in [run.path for run in found.runs]
    assert "mixup/seed0" in [run.path for run in found.runs]


def test_a_run_that_stopped_early_is_finished(tmp_path):
    path = write_run(tmp_path, "plain", 0)
    recipe = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(recipe.replace("epochs: 4", "epochs: 40"))
    assert collect(tmp_path).runs == []
    edit_json(path / "summary.json", stopped_early=True)
    assert [run.path for run in collect(tmp_path).runs] == ["plain/seed0"]


def test_missing_runs_are_those_that_others_have_a_seed_of(tmp_path):
    for variant, seed, finished in [("plain", 0, True), ("plain", 2, False), ("mixup", 0, True), ("mine", 8, True)]:
        write_run(tmp_path, variant, seed, finished=finished)
    assert collect(tmp_path).missing_seeds(["plain", "mixup", "mixup_cbam"]) == {"mixup": [2], "mixup_cbam": [0, 2]}
    assert {seed for seeds in collect(tmp_path).missing_seeds(VARIANTS).values() for seed in seeds} == {0, 2}


def test_no_run_is_an_error_that_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        collect(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no run in it \(NAME/seed0/ and so on\)$"):
        collect(tmp_path)


def test_a_folder_that_may_not_be_read_is_said_if_it_was_named_and_else_passed_over(tmp_path, monkeypatch):
    write_run(tmp_path, "plain", 0)
    locked = tmp_path / "locked"
    locked.mkdir()
    for name in ("scandir", "stat"):
        real = getattr(os, name)

        def refuse(path, *args, real=real, is_list=name == "scandir", **kwargs):
            if isinstance(path, str | Path) and (Path(path) == locked if is_list else Path(path).parent == locked):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, name, refuse)
    assert [run.path for run in collect(tmp_path).runs] == ["plain/seed0"]
    with pytest.raises(UserError, match=r"locked: cannot be read: permission denied$"):
        collect(locked)


def test_a_run_a_variant_and_a_folder_of_all_are_named_alike(tmp_path):
    path = write_run(tmp_path / "runs", "plain", 0)
    other = write_run(tmp_path / "runs", "plain", 1)
    for named, found in [
        ([path], ["plain/seed0"]),
        ([path.parent], ["plain/seed0", "plain/seed1"]),
        ([tmp_path], ["plain/seed0", "plain/seed1"]),
        ([other, path], ["plain/seed1", "plain/seed0"]),
        ([path, path.parent, tmp_path / "runs"], ["plain/seed0", "plain/seed1"]),
    ]:
        assert [run.path for run in collect(*named).runs] == found


def test_only_runs_are_found_and_no_link_leads_in_circles(tmp_path):
    write_run(tmp_path / "deep/er", "plain", 0)
    (tmp_path / "deep/up").symlink_to(tmp_path)
    tracked = tmp_path / "report/wandb/run-1/files"
    tracked.mkdir(parents=True)
    (tracked / "config.yaml").write_text("wandb_version: 1")
    write_run(tmp_path / ".hidden", "mixup", 0)
    found = collect(tmp_path)
    assert [run.path for run in found.runs] == ["plain/seed0"]
    assert found.left_out == []


def test_a_renamed_run_keeps_its_name_and_a_copy_does_not_count_twice(tmp_path):
    path = write_run(tmp_path / "runs", "plain", 0)
    shutil.copytree(path, tmp_path / "kept")
    path.rename(tmp_path / "runs/best_one")
    found = collect(tmp_path / "runs", tmp_path / "kept")
    assert [(run.variant, run.seed) for run in found.runs] == [("plain", 0)]
    assert [(item.status, item.reason) for item in found.left_out] == [("copy", f"a copy of {found.runs[0].path}")]


def test_epochs_of_a_damaged_run_are_read_up_to_the_damage(tmp_path):
    write_run(tmp_path, "mixup", 0)
    path = write_run(tmp_path, "plain", 0)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text("\n".join([*lines[:2], lines[2][:20], lines[3]]))
    (item,) = collect(tmp_path).left_out
    assert (item.status, [epoch["epoch"] for epoch in item.epochs]) == ("damaged", [1, 2])
    assert item.epochs[1] == json.loads(lines[1])


def test_of_many_runs_calibration_is_measured_but_no_temperature_fitted(tmp_path, monkeypatch):
    write_run(tmp_path, "plain", 0)
    (whole,) = collect(tmp_path).runs
    monkeypatch.setattr("hw1.report.collect.MAX_CALIBRATED", 0)
    (quick,) = collect(tmp_path).runs
    assert quick.calibration.before == whole.calibration.before
    assert (quick.calibration.temperature, whole.calibration.temperature is None) == (None, False)


@pytest.mark.slow
def test_a_run_of_the_real_training_is_read(tmp_path):
    overrides = (f"run.dir={tmp_path / 'runs'}", f"data.root={tmp_path / 'data'}", "model.name=resnet18_half_cbam")
    assert run("train.py", ROOT / "recipes" / "debug.yaml", *overrides).returncode == 0
    found = collect(tmp_path / "runs")
    assert found.left_out == []
    (found_run,) = found.runs
    assert (found_run.path, len(found_run.epochs), len(found_run.files)) == ("debug/seed118", 1, 100)
    assert found_run.correct.mean() == found_run.last["val_top1"]
