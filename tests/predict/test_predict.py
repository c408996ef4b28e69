"""`python -m hw1.predict`: the numbers of validate.py for any images, however they are named; sources are never written to."""

import csv
import hashlib
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.model_runs import calibrate, call, give_stdin, make_run, read_json, saved_logits, softmax

import validate
from hw1.data.synthetic import draw_image
from hw1.predict.__main__ import main

NAMES = ["2", "10", "30"]  # folders that are integers, with gaps between


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of each of three classes in val/, of other sizes and aspects; and descriptions of two of the classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for number in range(6):
                image = draw_image(int(name), 96, rng)[: 60 + 5 * number]
                cv2.imwrite(str(root / split / name / f"{number * 3}.{'png' if number == 1 else 'jpg'}"), image)
    (root / "class_names.json").write_text(json.dumps({"2": "a $quare", "30": "日本"}))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run on this data, evaluated by validate.py."""
    run = make_run(tmp_path_factory.mktemp("runs"), data, [str(i) if str(i) in NAMES else "" for i in range(31)], "data.num_workers=0")
    result = call(validate.main, run.path)
    assert result.returncode == 0, result.stderr
    for path in run.eval_dir("val").glob("calibration.json"):
        path.unlink()
    return run


def hashes(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def predictions_in(path: Path) -> dict[str, list[dict]]:
    return {row["file"]: row["predictions"] for row in read_json(path)}


def test_probabilities_are_those_of_validate(run, data, tmp_path):
    result = call(main, run.path, data / "val", "--top", "40", "--out", tmp_path / "p.json")
    assert (result.returncode, result.stderr) == (0, "")
    found = predictions_in(tmp_path / "p.json")
    logits, _ = saved_logits(run, "val")
    assert list(found) == [str(data / file) for file in logits]  # natural order: 3 before 15
    descriptions = {"2": "a $quare", "30": "日本"}
    for file, values in logits.items():
        probabilities = softmax(values)
        classes = found[str(data / file)]
        assert [each["class"] for each in classes] == [str(label) for label in np.argsort(-probabilities, kind="stable")]
        np.testing.assert_allclose([each["probability"] for each in classes], sorted(probabilities, reverse=True), rtol=1e-12)
        assert all(each["name"] == descriptions.get(each["class"], each["class"]) for each in classes)
    assert len({classes[0]["class"] for classes in found.values()}) > 1


def test_the_fitted_temperature_is_used_only_where_it_is_asked_for(run, data, tmp_path):
    image = data / "val/2/0.jpg"
    unscaled = softmax(saved_logits(run, "val")[0]["val/2/0.jpg"])
    calibrate(run, 2.0)
    try:
        plain = call(main, run.path, image, "--out", tmp_path / "a.json")
        fitted = call(main, run.path, image, "--out", tmp_path / "b.json", "--temperature", "fitted")
        calibrate(run, 2.0, num_images=60)
        doubtful = call(main, run.path, image, "--out", tmp_path / "c.json", "--temperature", "fitted")
        calibrate(run, 2.0, epoch=1)  # other weights
        none = call(main, run.path, image, "--temperature", "fitted")
        (run.eval_dir("val") / "calibration.json").write_text("{")
        damaged = call(main, run.path, image)
    finally:
        (run.eval_dir("val") / "calibration.json").unlink()
    tops = [predictions_in(tmp_path / f"{name}.json")[str(image)][0]["probability"] for name in "abc"]
    halved = np.sqrt(unscaled) / np.sqrt(unscaled).sum()  # temperature 2
    assert tops == pytest.approx([unscaled.max(), halved.max(), halved.max()], rel=1e-5)  # one image at a time here
    assert plain.stderr == fitted.stderr == ""
    assert doubtful.stderr == "--temperature fitted: 2.000 is doubtful: fitted on 60 images, of which it takes 500\n"
    assert (none.returncode, damaged.returncode) == (2, 2)
    assert "calibration.json: damaged" in damaged.stderr


def test_csv_and_lines_say_the_same(run, data, tmp_path):
    call(main, run.path, data / "val/10", "--top", "2", "--out", tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["file", "class_1", "name_1", "probability_1", "class_2", "name_2", "probability_2"]
    lines = call(main, run.path, data / "val/10", "--top", "2").stdout.splitlines()
    assert len(table) == len(lines) == 6
    for row, line in zip(table, lines, strict=True):
        shown = [f"{row[f'name_{k}']} {float(row[f'probability_{k}']):.4f}" for k in (1, 2)]
        assert line.split("  ") == [row["file"], *shown]


def files_of(result) -> list[str]:
    assert result.returncode == 0, result.stderr
    return [line.split("  ")[0] for line in result.stdout.splitlines()]


def test_files_folders_and_patterns_in_the_order_given_each_once(run, data, monkeypatch):
    monkeypatch.chdir(data)
    found = files_of(call(main, run.path, "val/30/9.jpg", "val/2", "val/*/?.jpg"))
    inside = [f"val/2/{name}" for name in ("0.jpg", "3.png", "6.jpg", "9.jpg", "12.jpg", "15.jpg")]
    rest = [f"val/{name}/{file}" for name in ("10", "30") for file in ("0.jpg", "6.jpg", "9.jpg") if (name, file) != ("30", "9.jpg")]
    assert found == ["val/30/9.jpg", *inside, *rest]


@pytest.mark.parametrize(("option", "end"), [("-", b"\n"), ("-0", b"\0")])
def test_paths_from_stdin(run, data, tmp_path, monkeypatch, option, end):
    odd = tmp_path / "a[0] b.jpg"
    raw = os.fsencode(tmp_path) + b"/\xff.jpg"  # no UTF-8
    for path in (odd, raw):
        Path(os.fsdecode(path)).write_bytes((data / "val/2/0.jpg").read_bytes())
    give_stdin(end.join([os.fsencode(odd), raw, b"", os.fsencode(data / "val/10")]) + end, monkeypatch)
    call(main, run.path, option, "--out", tmp_path / "p.csv", "--top", "1")
    lines = (tmp_path / "p.csv").read_bytes().splitlines()[1:]
    assert len(lines) == 8
    assert lines[0].startswith(os.fsencode(odd) + b",")
    assert lines[1].startswith(raw + b",")
    assert lines[0].partition(b",")[2] == lines[1].partition(b",")[2]


def test_an_unreadable_image_stops_or_is_left_out(run, data, tmp_path):
    whole = (data / "val/2/0.jpg").read_bytes()
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(whole if number != 11 else whole[:-300])
    options = [run.path, tmp_path / "in", "--out", tmp_path / "p.json", "--draw", tmp_path / "drawn"]
    stopped = call(main, *options)
    assert (stopped.returncode, stopped.stdout) == (2, "")
    assert stopped.stderr == f"{tmp_path / 'in' / '11.jpg'}: truncated; --skip-bad leaves out what cannot be read\n"
    assert not (tmp_path / "p.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    skipped = call(main, *options, "--skip-bad")
    assert skipped.returncode == 0
    assert "1 of 20 images" in skipped.stderr
    left = [f"{number}.jpg" for number in range(20) if number != 11]
    assert [Path(file).name for file in predictions_in(tmp_path / "p.json")] == left
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == sorted(left)
    alone = call(main, run.path, tmp_path / "in/11.jpg", "--skip-bad")
    assert (alone.returncode, alone.stderr.splitlines()[-1]) == (2, "none of 1 images can be read")


def test_drawn_images_stand_like_their_sources_which_stay(run, data, tmp_path):
    before = hashes(data)
    result = call(main, run.path, data / "val", "--draw", tmp_path / "drawn", "--top", "1")
    assert result.returncode == 0, result.stderr
    assert hashes(data) == before
    drawn = {path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*") if path.is_file()}
    sources = {path.relative_to(data / "val").as_posix() for path in (data / "val").rglob("*.*")}
    assert drawn == {name if name.endswith(".jpg") else f"{name}.jpg" for name in sources}
    image, source = cv2.imread(str(tmp_path / "drawn/30/15.jpg")), cv2.imread(str(data / "val/30/15.jpg"))
    height, width = source.shape[:2]
    left = (image.shape[1] - width) // 2
    below = image[-height:, left : left + width].astype(int)
    assert np.abs(below - source).mean() < 6  # JPEG twice
    assert (image[:-height] < 100).any()  # the text
    assert (image[:-height] > 200).mean() > 0.7


def test_drawing_never_reaches_a_source(run, data, tmp_path):
    before = hashes(data)
    inside = call(main, run.path, data / "val", "--draw", data / "val/drawn")
    over = call(main, run.path, data / "val/2/0.jpg", "--draw", data / "val/2")
    twice = call(main, run.path, data / "val/2/3.png", write_copy(data / "val/2/3.png", tmp_path / "3.png.jpg"), "--draw", tmp_path / "d")
    assert [result.returncode for result in (inside, over)] == [2, 2]
    assert "choose" in inside.stderr
    assert "overwrite" in over.stderr
    assert twice.returncode == 0
    assert hashes(data) == before


def write_copy(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["*.jpg"], "*.jpg: matches no image"),
        (["empty"], "empty: no images in this folder"),
        ([], "no image given"),
        (["a.jpg", "--top", "0"], "--top: must be at least 1"),
        (["a.jpg", "--temperature", "0"], "--temperature: must be fitted or a number above 0"),
        (["a.jpg", "--out", "p.txt"], "--out p.txt: the name must end in .csv or .json"),
        (["a.jpg", "--out", "no/p.csv"], "--out no/p.csv: the folder that it would be in does not exist"),
        (["a.jpg", "--draw", "no/d"], "--draw no/d: the folder that it would be in does not exist"),
        (["a.jpg", "--draw", "a.jpg"], "--draw a.jpg: is no folder"),
        (["a.jpg", "--checkpoint", "ema"], "checkpoints: no such checkpoint"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, folder, data, arguments, message):
    (folder / "empty").mkdir()
    if "a.jpg" in arguments:
        write_copy(data / "val/2/0.jpg", folder / "a.jpg")
    before = hashes(folder)
    result = call(main, run.path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert hashes(folder) == before


def test_what_is_no_model_is_named(folder, data):
    image = data / "val/2/0.jpg"
    (folder / "timm").mkdir()
    (folder / "timm/config.json").write_text('{"architecture": "resnet18"}')
    (folder / "a.onnx").write_bytes(b"nothing")
    wanted = {
        "nowhere": "no such folder",
        ".": "no run folder",
        "timm": "not written by hw1 export",
        "a.onnx": "a.onnx",
        "b.onnx": "no such",
    }
    for model, message in wanted.items():
        result = call(main, model, image)
        assert result.returncode == 2, model
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_failure(run, data, monkeypatch):
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return os.dup(2)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Closed())
    main([str(run.path), str(data / "val")])


def test_real_images(photos, tmp_path):
    """A run's numbers on real images are validate.py's."""
    names = [str(label) for label in range(12)]
    for split in ("train", "val"):
        (tmp_path / "few" / split).mkdir(parents=True)
        for name in names:
            (tmp_path / "few" / split / name).symlink_to(photos / "val" / name)
    run = make_run(tmp_path / "runs", tmp_path / "few", names, "data.num_workers=0", "data.eval_batch_size=64")
    assert call(validate.main, run.path).returncode == 0
    for path in run.eval_dir("val").glob("calibration.json"):
        path.unlink()
    call(main, run.path, tmp_path / "few/val", "--top", "1", "--out", tmp_path / "p.json")
    logits, _ = saved_logits(run, "val")
    found = predictions_in(tmp_path / "p.json")
    assert list(found) == [str(tmp_path / "few" / file) for file in logits]
    tops = [softmax(values).max() for values in logits.values()]
    np.testing.assert_allclose([classes[0]["probability"] for classes in found.values()], tops, rtol=1e-9)
