"""Averaged predictions: means of probabilities, by hand and by `validate.py`; the plain evaluation's files stay as they are."""

import cv2
import numpy as np
import pytest
import torch
from helpers.model_runs import call, make_run, read_json, saved_logits, softmax
from PIL import Image
from torch import nn

import validate
from hw1.data.synthetic import draw_image
from hw1.evaluation.ensemble import TestTimeAugmentation, mean_logits, mean_predictions
from hw1.evaluation.predictions import Predictions
from hw1.evaluation.predictor import load_predictor
from hw1.runs.checkpoint import load_weights, save_weights

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                cv2.imwrite(str(root / split / name / f"{number}.png"), draw_image(7 * label + number, 64, rng))
    return root


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Two runs of one recipe but for their weights and their input size."""
    folder = tmp_path_factory.mktemp("runs")
    one = make_run(folder, data, NAMES, "data.num_workers=0")
    other = make_run(folder, data, NAMES, "data.num_workers=0", "seed=7", "aug.size=56")
    weights, meta = load_weights(other.best)
    save_weights(other.best, {**weights, "fc.weight": -weights["fc.weight"]}, meta)
    return one, other


def test_the_mean_of_logits_is_that_of_their_probabilities():
    rng = np.random.default_rng(0)
    several = [(rng.normal(size=(6, 4)) * 300).astype(np.float32) for _ in range(3)]
    mean = np.mean([[softmax(row) for row in logits] for logits in several], axis=0)
    np.testing.assert_allclose(np.exp(mean_logits(several).astype(np.float64)), mean, rtol=1e-4, atol=1e-12)
    first, other = (Predictions(np.array(index), several[0][:2], np.array([0, 1])) for index in ([0, 1], [0, 2]))
    with pytest.raises(ValueError, match="different images"):
        mean_predictions([first, other])


@pytest.mark.parametrize("tta", ["flip", "crops"])
def test_views_are_what_they_are_called(tta):
    seen = []

    class Model(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.flatten(1)[:, :5] * 40

    views = TestTimeAugmentation(Model(), tta, 16)
    images = torch.randn(2, 3, views.input_size, views.input_size)
    mean = views(images).exp()
    far = views.input_size - 16
    boxes = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    expected = [images, images.flip(3)] if tta == "flip" else [images[:, :, y : y + 16, x : x + 16] for y, x in boxes]
    assert (views.input_size, len(seen)) == ((16, 2) if tta == "flip" else (18, 5))
    assert all(torch.equal(view, other) for view, other in zip(seen, expected, strict=True))
    torch.testing.assert_close(mean, torch.stack([(view.flatten(1)[:, :5] * 40).softmax(1) for view in expected]).mean(0))


def test_validate_averages_beside_the_plain_evaluation(runs, data):
    one, other = runs
    for run in runs:
        assert call(validate.main, run.path).returncode == 0
    before = {path: path.read_bytes() for path in one.eval_dir("val").iterdir()}
    for arguments, name in ((["--with", other.path], "val-mean2"), (["--tta", "flip"], "val-flip"), (["--tta", "crops"], "val-crops")):
        result = call(validate.main, one.path, *arguments)
        assert result.returncode == 0, result.stderr
        assert read_json(one.eval_dir(name) / "metrics.json")["num_images"] == 9
        assert not (one.eval_dir(name) / "attention.png").exists(), "the image is of one model's predictions"
    assert {path: path.read_bytes() for path in one.eval_dir("val").iterdir()} == before
    mine, others, both = (saved_logits(*run_and_split)[0] for run_and_split in ((one, "val"), (other, "val"), (one, "val-mean2")))
    for file, logits in both.items():
        np.testing.assert_allclose(np.exp(logits), (softmax(mine[file]) + softmax(others[file])) / 2, atol=1e-6)
    assert "Averaged" in (one.eval_dir("val-mean2") / "index.html").read_text()

    predictor = load_predictor(one, one.read_recipe())
    mean, std = (np.array(values, np.float32) for values in (predictor.recipe.aug.mean, predictor.recipe.aug.std))
    size = predictor.recipe.aug.size
    for file, logits in saved_logits(one, "val-crops")[0].items():
        big = np.asarray(Image.open(data / file).convert("RGB").resize((45, 45), Image.Resampling.BILINEAR))
        crops = np.stack([big[y : y + size, x : x + size] for y, x in ((0, 0), (0, 5), (5, 0), (5, 5), (2, 2))])
        images = torch.from_numpy((crops / np.float32(255) - mean) / std).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = predictor.model.eval()(images).softmax(1).mean(0)
        np.testing.assert_allclose(np.exp(logits), expected, atol=1e-4)


def test_runs_that_cannot_be_averaged_are_named(runs, data, tmp_path):
    one, other = runs
    stranger = make_run(tmp_path, data, ["a", "b", "x"])
    for arguments, message in (
        (["--with", stranger.path], "its classes are not those of"),
        (["--with", other.path, one.path], "names a run twice"),
        (["--with", tmp_path / "none"], "no such folder"),
        (["--tta", "flip", "--temperature", "fitted"], "--temperature fitted: belongs to one run's own answers"),
    ):
        result = call(validate.main, one.path, *arguments)
        assert result.returncode == 2
        assert message in result.stderr
