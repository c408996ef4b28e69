"""`aug.fit`: validate, predict of the run, of its export and of ONNX see the same squares."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.model_runs import call, make_run, read_json, saved_logits, softmax

import hw1.export.__main__ as export
import hw1.predict.__main__ as predict
import validate
from hw1.data.synthetic import draw_image

NAMES = ["ant", "bee"]
CHANGES = ("data.num_workers=0", "aug.crop_pct=0.8", "aug.interpolation=bicubic")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in [root / split / name for split in ("train", "val") for name in NAMES]:
        folder.mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(folder / f"{number}.png"), draw_image(20 + number, 96, rng)[: 40 + 50 * number])
    return root


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_everything_that_reads_an_image_makes_the_same_square_of_it(fit, data, tmp_path):
    run = make_run(tmp_path / "runs", data, NAMES, f"aug.fit={fit}", *CHANGES)
    assert call(validate.main, run.path).returncode == 0
    logits, _ = saved_logits(run, "val")
    wanted = [softmax(each) for each in logits.values()]
    (run.eval_dir("val") / "calibration.json").unlink(missing_ok=True)
    result = call(export.main, run.path, *onnx())
    assert result.returncode == 0, result.stderr
    for model in (run.path, run.path / "export", *(run.path / "export").glob("*.onnx")):
        assert call(predict.main, model, data / "val", "--out", tmp_path / "p.json", "--device", "cpu").returncode == 0
        rows = read_json(tmp_path / "p.json")
        found = [[next(each["probability"] for each in row["predictions"] if each["class"] == name) for name in NAMES] for row in rows]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=str(model))


def onnx() -> list[str]:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        return []
    return ["--onnx"]
