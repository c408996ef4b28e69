"""Runs that are continued by the real command: what a first start demands is not demanded again, what was decided stays decided."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.processes import expect_clear, start
from helpers.malformed_runs import MALFORMED, METRICS, change_state
from helpers.train_commands import newest_state, rows_without_times, run
from PIL import Image

from hw1.data.synthetic import draw_shapes
from hw1.runs.checkpoint import load_state, load_weights, save_state
from hw1.runs.folder import RunFolder
from hw1.training import trainer


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """A run of two epochs, which is only copied."""
    result = run("train.py", recipe)
    assert result.returncode == 0, result.stderr
    return recipe.parent / "runs"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it as it is when killed before its summary was written."""
    shutil.copytree(finished, tmp_path / "runs")
    (tmp_path / "runs/tiny/seed5/summary.json").unlink()
    return tmp_path / "runs/tiny/seed5"


def resume(recipe: Path, folder: Path, *arguments: str) -> Any:
    return run("train.py", recipe, f"run.dir={folder.parents[1]}", *arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# ------------------------------------------------------------------------------------------------------ --overwrite


def test_overwrite_deletes_no_unfinished_run_of_the_same_recipe(recipe: Path, tmp_path: Path) -> None:
    """As a batch system, or keep_on.sh, starts the same command line again."""
    arguments = (recipe, f"run.dir={tmp_path}", "train.epochs=50", "--overwrite")
    folder = tmp_path / "tiny" / "seed5"
    process = start(tmp_path / "out.txt", "train", *arguments)
    process.wait_until(lambda: (folder / "metrics.jsonl").is_file())
    process.send(signal.SIGTERM)
    process.wait(60)
    expect_clear(process, 143, "the same command continues it")
    epochs = load_state(newest_state(folder))["progress"]["epoch"]
    assert epochs >= 1
    result = run("train.py", recipe, f"run.dir={tmp_path}", f"train.epochs={epochs + 1}", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert f"{folder}: is unfinished, so --overwrite has deleted nothing; delete the folder to start over" in result.stderr
    assert f"continues in epoch {epochs + 1}" in result.stderr
    assert [row["epoch"] for row in rows_without_times(folder)] == list(range(1, epochs + 2))


def test_overwrite_deletes_a_finished_run(recipe: Path, folder: Path, finished: Path) -> None:
    shutil.copy(finished / "tiny/seed5/summary.json", folder)
    result = resume(recipe, folder, "train.epochs=1", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in rows_without_times(folder)] == [1]


@pytest.mark.parametrize("what", ["data", "states", "metrics", "optimizer"])
def test_overwrite_starts_over_what_cannot_be_continued(recipe: Path, folder: Path, tmp_path: Path, what: str) -> None:
    """Every refusal that names --overwrite is one that it answers."""
    arguments = ["train.epochs=1"]
    if what == "data":
        draw_shapes(tmp_path / "shapes", 1)
        next((tmp_path / "shapes/train/8").iterdir()).unlink()
        (tmp_path / "shapes/train/8/x.jpg").write_bytes(next((tmp_path / "shapes/train/9").iterdir()).read_bytes())
        arguments += [f"data.root={tmp_path / 'shapes'}"]
    elif what == "states":
        for path in RunFolder(folder).state_files():
            path.write_bytes(b"damaged")
    elif what == "metrics":
        (folder / "metrics.jsonl").write_text("")
    else:
        change_state(folder, lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)))
    refused = resume(recipe, folder, "train.epochs=3", *arguments[1:])
    assert refused.returncode == 2
    result = resume(recipe, folder, *arguments, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in rows_without_times(folder)] == [1]


# ------------------------------------------------------------------------------------------------- how long, and when to stop


def test_a_continued_run_does_not_need_its_start_weights(recipe: Path, tmp_path: Path) -> None:
    from hw1.config.load import load_recipe
    from hw1.models.factory import build_model

    model = build_model(load_recipe(recipe).model, 100, load_weights=False)
    torch.save(model.state_dict(), tmp_path / "start.pth")
    weights = f"model.weights={tmp_path / 'start.pth'}"
    arguments = (recipe, f"run.dir={tmp_path}", weights)
    assert run("train.py", *arguments, "train.epochs=1").returncode == 0
    (tmp_path / "start.pth").unlink()
    result = run("train.py", *arguments, "train.epochs=2")
    assert result.returncode == 0, result.stderr
    result = run("train.py", recipe, f"run.dir={tmp_path}", weights, "run.name=other")
    assert result.returncode == 2
    assert "start.pth: no such file" in result.stderr


def test_a_run_that_stopped_early_is_finished_wherever_it_was_killed(recipe: Path, folder: Path) -> None:
    """Before summary.json was written: it trains no further epoch, however often that happens."""
    result = resume(recipe, folder, "train.epochs=40", "train.early_stop=1", "optim.lr=1e-3")
    assert result.returncode == 0, result.stderr
    epochs = len(rows_without_times(folder))
    for _ in range(2):
        (folder / "summary.json").unlink()
        assert resume(recipe, folder, "train.epochs=40", "train.early_stop=1").returncode == 0
        assert len(rows_without_times(folder)) == epochs
    assert json.loads((folder / "summary.json").read_text())["stopped_early"]


def test_why_a_run_is_finished_says_how_it_goes_on(recipe: Path, folder: Path) -> None:
    change_state(folder, lambda state: state["progress"].update(stale_epochs=2))
    assert resume(recipe, folder, "train.epochs=12", "train.early_stop=2").returncode == 0
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 2
    result = resume(recipe, folder, "train.epochs=40", "train.early_stop=2")
    assert "stopped early after epoch 2; train.early_stop=N above 2, or null, trains on" in result.stdout
    result = resume(recipe, folder, "train.epochs=3", "train.early_stop=5")
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in rows_without_times(folder)] == [1, 2, 3]
    assert (
        "finished already, 3 epochs; train.epochs=N trains longer" in resume(recipe, folder, "train.epochs=3", "train.early_stop=5").stdout
    )
    assert resume(recipe, folder, "train.epochs=4", "train.early_stop=null").returncode == 0
    assert len(rows_without_times(folder)) == 4


def test_early_stop_counts_epochs_without_better_accuracy(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss falls, the accuracy stays."""
    losses = iter([3.0, 2.0, 1.0, 0.5])
    monkeypatch.setattr(trainer, "summarize", lambda logits, labels: {"loss": next(losses), "top1": 0.25, "top5": 0.5})
    result = run("train.py", recipe, f"run.dir={tmp_path}", "train.epochs=4", "train.early_stop=2")
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "tiny/seed5/summary.json").read_text())
    assert (summary["epochs"], summary["stopped_early"], summary["best_epoch"]) == (3, True, 3)


SCORES = {
    "top1": ([0.2, 0.4, 0.3, 0.4], "val_top1", 2),
    "loss": ([3.0, 2.5, 2.0, 2.0, 2.2], "val_loss", 3),
    "macro_f1": ([0.1, 0.3, 0.2, 0.25], "val_macro_f1", 2),
    "balanced_accuracy": ([0.3, 0.2, 0.1], "val_balanced_accuracy", 1),
}


@pytest.mark.parametrize("best_by", SCORES)
def test_the_best_epoch_and_early_stop_go_by_the_same_score(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_by: str
) -> None:
    """All others rise, or fall, in every epoch; killed before the last epoch it ends alike."""
    values, column, best_epoch = SCORES[best_by]
    numbers: dict[str, float] = {}

    def measure(epoch: int) -> None:
        numbers.update(loss=3.0 - epoch / 10 if best_by != "top1" else 3.0, top1=epoch / 10, top5=0.5)
        numbers.update(macro_f1=epoch / 10, balanced_accuracy=epoch / 10)
        numbers[best_by] = values[epoch]

    epochs = iter(range(9))
    monkeypatch.setattr(trainer, "summarize", lambda *_: (measure(next(epochs)), numbers)[1])
    monkeypatch.setattr(trainer, "class_averages", lambda *_: {key: numbers[key] for key in ("macro_f1", "balanced_accuracy")})
    arguments = (recipe, f"run.dir={tmp_path}", f"train.best_by={best_by}", "train.early_stop=2")
    folder = tmp_path / "tiny/seed5"
    for upto in (2, 9):
        result = run("train.py", *arguments, f"train.epochs={upto}")
        assert result.returncode == 0, result.stderr
        (folder / "summary.json").rename(tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["best_by"], summary["best_epoch"], summary["stopped_early"]) == (best_by, best_epoch, True)
    assert summary["epochs"] == len(values) == best_epoch + 2
    assert summary[f"best_{best_by}"] == values[best_epoch - 1]
    assert [row[column] for row in rows_without_times(folder)] == values
    assert load_weights(folder / "checkpoints/best.safetensors")[1]["epoch"] == best_epoch
    assert f"best val {best_by.replace('top1', 'top-1')} {values[best_epoch - 1]:.4f} in epoch {best_epoch}" in result.stdout


def test_a_run_from_before_best_by_is_continued(recipe: Path, folder: Path, finished: Path) -> None:
    change_state(folder, lambda state: state["progress"].pop("best_score"))
    assert resume(recipe, folder).returncode == 0
    summary, whole = (json.loads((path / "summary.json").read_text()) for path in (folder, finished / "tiny/seed5"))
    assert {**summary, "seconds": 0, "saving_seconds": 0} == {**whole, "seconds": 0, "saving_seconds": 0}


def test_fewer_epochs_than_have_begun_are_refused(recipe: Path, folder: Path) -> None:
    """The summary would speak of another state than the last one saved."""
    state = load_state(newest_state(folder))
    state["progress"] |= {"step": 2, "updates": state["progress"]["updates"] + 1}
    del state["format"]
    save_state(RunFolder(folder).state_file(2, 2), state)
    result = resume(recipe, folder)
    assert result.returncode == 2
    assert f"train.epochs: 2, but epoch 3 of {folder} has begun; train.epochs=3 ends the run after it" in result.stderr
    assert resume(recipe, folder, "train.epochs=3").returncode == 0


@pytest.mark.parametrize("batch_size", [33, 1])
def test_a_batch_of_one_image_trains(recipe: Path, tmp_path: Path, batch_size: int) -> None:
    """100 images: the last batch of 33 is one image, whose maps are one pixel in the last stage at 32 pixels."""
    keys = ["train.epochs=1", f"data.batch_size={batch_size}", "train.grad_accum=1", "aug.size=32"]
    result = run("train.py", recipe, f"run.dir={tmp_path}", *keys)
    assert result.returncode == 0, result.stderr
    assert load_state(newest_state(tmp_path / "tiny/seed5"))["progress"]["updates"] == -(-100 // batch_size)


# ------------------------------------------------------------------------------------------------------ foreign and malformed


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_state_is_one_line(recipe: Path, folder: Path, what: str) -> None:
    """Its checksum is right; torch's fused AdamW would write beyond its memory."""
    change_state(folder, MALFORMED[what])
    before = files(folder)
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"{folder}: its saved state does not belong to this recipe: ")
    assert "Traceback" not in result.stderr
    assert files(folder) == before


def test_checkpoints_of_another_run_are_refused(recipe: Path, folder: Path, tmp_path: Path) -> None:
    other = run("train.py", recipe, f"run.dir={tmp_path / 'other'}", "seed=6")
    assert other.returncode == 0, other.stderr
    theirs = tmp_path / "other/tiny/seed6"
    path = newest_state(folder)
    for end in (".pt", ".sha256"):
        shutil.copy(newest_state(theirs).with_suffix(end), path.with_suffix(end))
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 2
    assert "belongs to another run, of another recipe or seed" in result.stderr


@pytest.mark.parametrize("what", METRICS)
def test_metrics_that_are_not_those_of_the_run_are_refused(recipe: Path, folder: Path, what: str) -> None:
    path = folder / "metrics.jsonl"
    path.write_text("".join(METRICS[what](path.read_text().splitlines(keepends=True))))
    before = files(folder)
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"{path}: ")
    assert "Traceback" not in result.stderr
    assert files(folder) == before


def test_other_packages_are_said_and_recorded(recipe: Path, folder: Path) -> None:
    env = json.loads((folder / "env.json").read_text())
    now = env["packages"]["timm"]
    env["packages"]["timm"] = "0.9.1"
    (folder / "env.json").write_text(json.dumps(env))
    result = resume(recipe, folder, "train.epochs=3")
    assert f"continued with other packages (timm 0.9.1 -> {now})" in result.stderr
    env = json.loads((folder / "env.json").read_text())
    assert [(change["from_epoch"], change["packages"]["timm"]) for change in env["changes"]] == [(3, now)]
    assert "other packages" not in resume(recipe, folder, "train.epochs=4").stderr
    (folder / "env.json").unlink()
    result = resume(recipe, folder, "train.epochs=5")
    assert result.returncode == 0, result.stderr
    assert f"{folder / 'env.json'}: missing or damaged" in result.stderr


# ------------------------------------------------------------------------------------------------------------ the data


def equal_sizes(root: Path) -> Path:
    """The shapes as BMP, so that all files have one size."""
    draw_shapes(root, 1)
    for path in [*root.glob("train/*/*.jpg"), *root.glob("val/*/*.jpg")]:
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
    assert len({path.stat().st_size for path in root.glob("*/*/*.bmp")}) == 1
    return root


def test_other_images_of_the_same_size_are_refused_and_a_copy_is_continued(recipe: Path, tmp_path: Path) -> None:
    root = equal_sizes(tmp_path / "shapes")
    folder = tmp_path / "runs/tiny/seed5"
    arguments = (recipe, f"run.dir={tmp_path / 'runs'}")
    assert run("train.py", *arguments, f"data.root={root}", "train.epochs=1").returncode == 0
    (tmp_path / "copy").mkdir()
    for split in ("train", "val"):
        shutil.copytree(root / split, tmp_path / "copy" / split, copy_function=shutil.copyfile)  # other inodes, other dates
    result = run("train.py", *arguments, f"data.root={tmp_path / 'copy'}", "train.epochs=2")
    assert result.returncode == 0, result.stderr
    before = files(folder)
    files_of_class = sorted(root.glob("train/*/*.bmp"))
    contents = [path.read_bytes() for path in files_of_class]
    for path, content in zip(files_of_class, contents[1:] + contents[:1], strict=True):
        status = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused = run("train.py", *arguments, f"data.root={root}", "train.epochs=3")
    assert refused.returncode == 2
    assert f"the images in {root} have changed since (100 + 100 then, 100 + 100 now)" in refused.stderr
    assert files(folder) == before


def test_a_run_begun_before_contents_counted_is_continued(recipe: Path, folder: Path) -> None:
    """Its checkpoints and `env.json` have the fingerprint of names, sizes and labels; from then on the new one counts."""
    env = json.loads((folder / "env.json").read_text())
    now, former = env["fingerprint"], env.pop("fingerprint_without_content")
    assert now != former
    (folder / "env.json").write_text(json.dumps(env | {"fingerprint": former}))
    change_state(folder, lambda state: (state.update(fingerprint=former), state["identity"].update(data=former[:16])))
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 0, result.stderr
    env = json.loads((folder / "env.json").read_text())
    assert (env["fingerprint"], env["fingerprint_without_content"]) == (now, former)
    state = load_state(newest_state(folder))
    assert (state["fingerprint"], state["identity"]["data"]) == (now, now[:16])
    change_state(folder, lambda state: state.update(fingerprint="0" * 64))
    assert resume(recipe, folder, "train.epochs=4").returncode == 2


def test_what_is_passed_over_and_alike_is_said_at_the_start(recipe: Path, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes", 1)
    (tmp_path / "shapes/train/8/photo.HEIC").touch()
    shutil.copytree(tmp_path / "shapes/train/8", tmp_path / "shapes/train/cat")
    shutil.copytree(tmp_path / "shapes/train/8", tmp_path / "shapes/train/Cat")
    result = run("train.py", recipe, f"run.dir={tmp_path}", f"data.root={tmp_path / 'shapes'}", "train.epochs=1", "log.every_steps=100")
    assert result.returncode == 0, result.stderr
    names = "train/8/photo.HEIC, train/Cat/photo.HEIC, ..."
    assert f"passed over in {tmp_path / 'shapes'}: 3 .heic ({names})" in result.stderr.splitlines()
    assert sum("differ only in Unicode form, case or spaces: 'Cat' and 'cat'" in line for line in result.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------------ the lock


def test_a_lock_that_is_a_link_or_a_pipe_is_left_alone(recipe: Path, folder: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "tiny/seed5/summary.json", folder)
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(precious)
    result = resume(recipe, folder)
    assert result.returncode in (0, 2)
    assert "Traceback" not in result.stderr
    assert precious.read_text() == "years of work"
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    result = resume(recipe, folder, "train.epochs=3")
    assert result.returncode == 2
    assert f"{folder}: cannot be written to: its .lock is no regular file" in result.stderr
