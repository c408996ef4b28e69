"""`hw1 validate`: results that are one whole, weights of this very run, and one confidence in all commands."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.model_runs import FINGERPRINT, calibrate, call, make_run, read_json, saved_logits, softmax
from PIL import Image

import hw1.attention.__main__ as attention
import hw1.export.__main__ as export
import hw1.predict.__main__ as predict
from hw1.attention import figure_rows
from hw1.commands import validate
from hw1.commands.validate import difference_to_stated
from hw1.data.synthetic import draw_image
from hw1.evaluation.report import write
from hw1.runs.checkpoint import load_weights, save_state, save_weights
from hw1.runs.identity import identify

NAMES = ["=ant", "bee", "cow"]
LABELLED = {
    "metrics.json", "calibration.json", "index.html", "per_class.csv", "confused.csv", "worst.csv", "confusion.png", "calibration.png",
    "confused.png", "worst.png", "attention.png", "predictions.npz",
}  # fmt: skip
UNLABELLED = {"prediction.csv", "submission.zip", "confidence.csv"}
COMMANDS = {"validate": validate.main, "predict": predict.main, "export": export.main, "attention": attention.main}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for number in range(5):
                Image.fromarray(draw_image(label, 60, rng)).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture
def run(data, tmp_path):
    return make_run(tmp_path / "runs", data, NAMES, "data.num_workers=0")


@pytest.fixture(autouse=True)
def cheap_figures(monkeypatch):
    """Empty files, which take no time: other tests look at them."""
    for name in ("confusion_figure", "reliability_figure", "pair_figure", "worst_figure"):
        monkeypatch.setattr(write, name, lambda *_: None)
    monkeypatch.setattr(write, "render_figure", lambda *_: b"")
    monkeypatch.setattr(figure_rows, "plot_attention_examples", lambda *_: object())


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_results_of_labelled_and_unlabelled_images_never_share_a_folder(run, data, tmp_path):
    images = tmp_path / "mine"
    shutil.copytree(data / "val", images)
    result = call(validate.main, run.path, "--split", images)
    assert result.returncode == 0
    [out] = (run.path / "eval").iterdir()
    assert f"{out}: evaluates 15 images" in result.stderr.splitlines()
    assert names_in(out) == LABELLED
    for name in ("per_class", "confused", "worst"):
        with open(out / f"{name}.csv", newline="") as file:
            classes = {row["class"] for row in csv.DictReader(file)}
        assert "'=ant" in classes
        assert not any(text.startswith("=") for text in classes)
    (out / "remnant.csv").touch()
    shutil.rmtree(images)
    shutil.copytree(data / "val" / NAMES[0], images)
    result = call(validate.main, run.path, "--split", images)
    assert result.returncode == 0, result.stderr
    assert f"{out}: predicts 5 images" in result.stderr.splitlines()
    assert names_in(out) == UNLABELLED
    rows = (out / "prediction.csv").read_text().splitlines()
    assert rows[0] == "image_name,pred_label"
    assert [row.split(",")[0] for row in rows[1:]] == list("01234")
    assert {row.split(",")[1] for row in rows[1:]} <= {"'=ant", "bee", "cow"}
    assert [*out.parent.iterdir()] == [out]
    shutil.rmtree(images)
    shutil.copytree(data / "val", images)
    assert call(validate.main, run.path, "--split", images).returncode == 0
    assert names_in(out) == LABELLED


@pytest.mark.slow
def test_an_evaluation_that_fails_leaves_the_former_one(run, data, monkeypatch):
    assert call(validate.main, run.path).returncode == 0
    before = {path.name: path.read_bytes() for path in run.eval_dir("val").iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    result = call(validate.main, run.path, "--temperature", "3")
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1].startswith(f"{run.eval_dir('val')}: cannot be written: No space left on device")
    assert {path.name: path.read_bytes() for path in run.eval_dir("val").iterdir()} == before
    assert names_in(run.eval_dir("val").parent) == {"val"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["recipe", "data"])
@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_weights_of_another_run_are_refused_in_one_line(run, data, tmp_path, command, kind, checkpoint):
    arguments = [data / "val/bee/0.png"] if command in ("predict", "attention") else []
    weights, meta = load_weights(run.best)
    own = identify(run.read_recipe(), FINGERPRINT)
    other = (
        identify(run.read_recipe(["train.epochs=9"]).model_copy(update={"seed": 7}), FINGERPRINT)
        if kind == "recipe"
        else {**own, "data": "0"}
    )
    for identity, code in ((own, 0), (other, 2)):
        if checkpoint == "best":
            save_weights(run.best, weights, {**meta, "identity": identity})
        else:
            state = {"model": weights, "classes": NAMES, "progress": {"epoch": 3, "step": 0}, "identity": identity}
            save_state(run.state_file(3, 0), state)
        options = ["--out", tmp_path / "a.png"] if command == "attention" else []
        result = call(COMMANDS[command], run.path, *arguments, "--checkpoint", checkpoint, *options)
        assert result.returncode == code, result.stderr
    path = run.best if checkpoint == "best" else run.state_file(3, 0)
    what = {"recipe": "of another recipe or seed", "data": "on other data"}[kind]
    assert result.stderr == f"{path}: belongs to another run, {what}\n"


def test_weights_of_version_01_have_no_identity_and_pass(run):
    weights, meta = load_weights(run.best)
    del meta["identity"]
    save_weights(run.best, weights, meta)
    assert call(validate.main, run.path).returncode == 0


@pytest.mark.slow
def test_what_the_weights_say_of_themselves_is_compared(run):
    first = call(validate.main, run.path)
    assert first.returncode == 0
    evaluates = f"{run.eval_dir('val')}: evaluates 15 images\n"
    assert len(first.stderr.removeprefix(evaluates).splitlines()) == 1  # the helper states numbers that these random weights do not have
    assert f"{run.best}: says top-1 0.5000 and loss 2.0000 of its validation, here it is top-1" in first.stderr
    metrics = read_json(run.eval_dir("val") / "metrics.json")
    weights, meta = load_weights(run.best)
    save_weights(run.best, weights, {**meta, "val_top1": metrics["top1"], "val_loss": metrics["loss"]})
    assert call(validate.main, run.path, "--temperature", "3").stderr == evaluates


@pytest.mark.parametrize(
    ("accuracy", "nll", "num", "is_same"),
    [
        (0.8, 1.0, 1000, True), (0.805, 1.0, 1000, True), (0.795, 1.015, 1000, True), (0.807, 1.0, 1000, False),
        (0.8, 1.03, 1000, False), (0.9, 1.0, 10, True), (0.6, 1.0, 10, False), (0.8, float("nan"), 1000, False),
    ],
)  # fmt: skip
def test_another_device_is_no_difference(accuracy, nll, num, is_same):
    line = difference_to_stated({"accuracy": 0.8, "nll": 1.0}, {"accuracy": accuracy, "nll": nll}, num)
    assert (line == "") == is_same
    assert difference_to_stated({}, {"accuracy": accuracy, "nll": nll}, num) == ""


@pytest.mark.slow
def test_one_image_has_one_confidence_in_every_command(run, data, tmp_path, monkeypatch):
    """As trained without being asked, and at the fitted temperature where it is asked for."""
    image = data / "val/bee/0.png"
    assert call(validate.main, run.path).returncode == 0
    unscaled = saved_logits(run, "val")[0]["val/bee/0.png"]
    calibrate(run, 2.0)
    assert call(export.main, run.path).returncode == 0
    titles, rows = [], figure_rows.attention_rows

    def spy(*arguments, **options):
        found = rows(*arguments, **options)
        titles.append(found[0].title)
        return found

    monkeypatch.setattr(figure_rows, "attention_rows", spy)
    for options, logits in (([], unscaled), (["--temperature", "fitted"], unscaled / 2)):
        confidence = softmax(logits).max()
        for model in (run.path, run.path / "export"):
            result = call(predict.main, model, image, "--out", tmp_path / "p.json", "--device", "cpu", *options)
            assert (result.returncode, result.stderr) == (0, "")
            assert read_json(tmp_path / "p.json")[0]["predictions"][0]["probability"] == pytest.approx(confidence, rel=1e-4)
        assert call(attention.main, run.path, image, "--out", tmp_path / "a.png", "--device", "cpu", *options).returncode == 0
        assert titles.pop().endswith(f" {confidence:.0%}")
        (tmp_path / "one").mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / "one/a.png")
        assert call(validate.main, run.path, "--split", tmp_path / "one", *options).returncode == 0
        [table] = run.path.glob("eval/*/confidence.csv")
        with open(table) as file:
            [row] = csv.DictReader(file)
        assert float(row["confidence"]) == pytest.approx(confidence, rel=1e-4)
    card = (run.path / "export/README.md").read_text()
    assert "Logits divided by 2.0000, a temperature fitted" in card
    assert "torch.softmax(model(image), dim=1)" in card
    calibrate(run, 2.0, num_images=60)
    assert call(export.main, run.path).returncode == 0
    assert "## Confidence" not in (run.path / "export/README.md").read_text()
    assert read_json(run.path / "export/config.json")["hw1"]["temperature"] is None


@pytest.mark.slow
def test_a_temperature_is_offered_on_enough_images_only(run, monkeypatch):
    result = call(validate.main, run.path)
    assert "--temperature fitted" not in result.stdout
    page = (run.eval_dir("val") / "index.html").read_text()
    assert "applies it" not in page
    assert "It is not offered: fitted on 15 images, of which it takes 500." in page
    monkeypatch.setattr("hw1.evaluation.temperature.MIN_IMAGES", 15)
    result = call(validate.main, run.path)  # random weights that are much too sure
    assert "--temperature fitted would divide the logits by" in result.stdout
    assert "applies it" in (run.eval_dir("val") / "index.html").read_text()


def test_odd_names_of_folders_and_images_do_nothing_in_lines_or_tables(run, data, tmp_path):
    folder = tmp_path / "photos [1]"
    folder.mkdir()
    for name in ("=cmd|x.png", "-1.png", "a\x1b[2Jb.png", "plain.png"):
        shutil.copy(data / "val/bee/0.png", folder / name)
    result = call(validate.main, run.path, "--split", folder)
    assert result.returncode == 0, result.stderr
    [table] = run.path.glob("eval/*/prediction.csv")
    rows = table.read_text().splitlines()
    assert {row.rsplit(",", 1)[0] for row in rows[1:]} == {"'=cmd|x", "-1", "a\\x1b[2Jb", "plain"}
    result = call(predict.main, run.path, f"{folder}/*.png", "--top", "1")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 4
    assert "\x1b" not in result.stdout
