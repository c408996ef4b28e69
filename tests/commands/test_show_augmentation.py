"""`hw1 show-augmentation`: a row for each image, a column for each step; mistakes in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.transform_images import noise
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.pipelines import augment_step_by_step
from hw1.data.augment.transforms import build_train_transform

STEPS = ("policy", {"CoarseDropout": {"p": 0.01}}, {"InvertImg": {"p": 0.01}})


def show(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hw1", "show-augmentation", str(ROOT / "recipes/debug.yaml"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_a_figure_is_written_and_named(tmp_path: Path) -> None:
    Image.fromarray(noise(60, 90)).save(tmp_path / "one.png")
    result = show("--image", "one.png", "aug.transforms=[policy, Blur]", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, "augmentation.png\n"), result.stderr
    with Image.open(tmp_path / "augmentation.png") as figure:
        assert figure.width > 3 * figure.height  # one row of seven cells


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, line in (
        (["--image", "none.png"], "none.png: no such file"),
        (["--num", "0"], "--num: from 1 to 32, got 0"),
        (["aug.transforms=[Blur]"], "command line: aug.transforms: images come out at "),
    ):
        result = show(*arguments, folder=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith(line), result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_each_step_is_applied_to_the_image_before_it() -> None:
    """Always, however improbable; the policy is that of training."""
    aug, image, words = AugConfig(size=48, transforms=STEPS), noise(70, 60), (1, 2, 3)
    (first, policy), (second, dropped), (third, inverted) = augment_step_by_step(aug, image, words)
    assert (first, second, third) == ("policy", "CoarseDropout", "InvertImg")
    np.testing.assert_array_equal(policy, build_train_transform(AugConfig(size=48))(image, words))
    changed = (dropped != policy).any(axis=2)
    assert 0 < changed.mean() < 0.5
    assert not dropped[changed].any()
    np.testing.assert_array_equal(inverted, 255 - dropped)
