"""`python -m hw1.attention`, and the attention figure of an evaluation."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from helpers.model_runs import SIZE, call, make_run
from PIL import Image
from torch import nn

from hw1.attention.__main__ import main
from hw1.attention.figure_rows import attention_rows, plot_attention_examples
from hw1.attention.gradcam import grad_cam
from hw1.data.image_folder import ImageSet
from hw1.data.synthetic import draw_image
from hw1.errors import RunError
from hw1.evaluation.predictor import load_predictor
from hw1.evaluation.report.analysis import analyse
from hw1.evaluation.report.examples import choose_for_attention

NAMES = ["cat", "$dog", "ant"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(18):
        cv2.imwrite(str(folder / f"{i}.jpg"), draw_image(i, 96, rng)[: 60 + i])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), None, NAMES)


@pytest.fixture(scope="module")
def predictor(run):
    return load_predictor(run, run.read_recipe())


def test_rows_show_the_predicted_class_or_the_requested_one(predictor):
    pixels = np.stack([draw_image(i, SIZE, np.random.default_rng(i)) for i in range(4)])
    mean, std = (np.array(values, np.float32) for values in (predictor.recipe.aug.mean, predictor.recipe.aug.std))
    images = torch.from_numpy((pixels / np.float32(255) - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        probabilities = predictor.model.eval()(images).softmax(1)
    for requested in (None, np.array([2, 2, 0, 1])):
        classes = probabilities.argmax(1) if requested is None else torch.from_numpy(requested)
        rows = attention_rows(predictor, pixels, list("abcd"), requested)
        assert [row.file for row in rows] == list("abcd")
        assert [row.title for row in rows] == [
            f"{NAMES[label]} {probability:.0%}" for label, probability in zip(classes, probabilities[range(4), classes], strict=True)
        ]
        np.testing.assert_allclose([row.cam for row in rows], grad_cam(predictor.model, images, classes).maps, atol=1e-3)
        assert all([gate[0] for gate in row.gates] == ["layer4"] for row in rows)


def test_command_draws_a_row_per_image(run, images, tmp_path):
    heights = []
    for what in ([images / "0.jpg"], [images / "0.jpg", images / "1.jpg"], [images]):
        result = call(main, run.path, *what, "--out", tmp_path / "a.png", "--class", "$dog")
        assert result.returncode == 0, result.stderr
        with Image.open(tmp_path / "a.png") as image:
            heights.append(image.height)
    assert heights[1] == pytest.approx(2 * heights[0], abs=2)
    assert heights[2] == pytest.approx(16 * heights[0], abs=16)
    assert "the first 16 of 18 images are shown" in result.stderr + result.stdout
    assert f"{tmp_path / 'a.png'}: 16 images" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{p}/0.jpg", "--class", "dog"], "--class dog: the run has no such class; did you mean $dog?"),
        (["{p}/none.jpg"], "none.jpg: no such file or folder"),
        (["{p}/0.jpg", "--out", "a.jpg"], "--out a.jpg: must be a file whose name ends in .png"),
        (["{p}/0.jpg", "--out", "{p}/none/a.png"], "the folder that it would be in does not exist"),
        (["{p}/bad.png"], "bad.png"),
        (["{p}/0.jpg", "--checkpoint", "ema"], "no such checkpoint"),
    ],
)
def test_mistakes_are_one_line(run, images, folder, arguments, message):
    (folder / "bad.png").write_bytes(b"no image")
    arguments = [text.format(p=folder if "bad" in text else images) for text in arguments]
    result = call(main, run.path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "attention.png").exists()


def test_evaluation_shows_attention_for_the_worst_and_the_best(predictor, images):
    labels = np.arange(18, dtype=np.int64) % 3
    image_set = ImageSet(images, tuple(f"{i}.jpg" for i in range(18)), labels, 0)
    logits = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    analysis = analyse(logits, labels, image_set.files, NAMES, {"checkpoint": "best", "epoch": 3})
    chosen = choose_for_attention(analysis)
    wrong, right = chosen[:4], chosen[4:]
    mistakes = np.flatnonzero(analysis.labels != analysis.predicted)
    assert wrong == sorted(mistakes, key=lambda i: -analysis.losses[i])[:4]
    assert sorted(labels[right]) == sorted(set(labels[analysis.labels == analysis.predicted]))  # each of another class
    for i in right:
        assert analysis.losses[i] == analysis.losses[(labels == labels[i]) & (analysis.predicted == labels)].min()
    figure = plot_attention_examples(predictor, image_set, chosen)
    assert len(figure.axes) == len(chosen) * 4
    gone = ImageSet(images, ("none.jpg",), labels[:1], 0)
    with pytest.raises(RunError, match=r"none\.jpg"):
        plot_attention_examples(predictor, gone, [0])


def test_a_model_without_a_feature_map_has_no_figure(images, predictor):
    other = replace(predictor, model=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    image_set = ImageSet(images, ("0.jpg",), np.zeros(1, np.int64), 0)
    assert plot_attention_examples(other, image_set, [0]) is None
