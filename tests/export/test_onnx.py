"""`python -m hw1.export --onnx`: onnxruntime says what torch says, of any number of images."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.model_runs import SIZE, calibrate, call, make_run, read_json
from helpers.paths import ROOT

import hw1.export.__main__ as export
import hw1.predict.__main__ as predict
from hw1.data.synthetic import draw_image
from hw1.evaluation.predictor import load_predictor

onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
pytest.importorskip("onnxscript", reason="requirements-onnx.txt is not installed")

NAMES = ["ant", "bee", "", "dog"]
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(filter(None, NAMES)):
            (root / split / name).mkdir(parents=True)
            for number in range(12):
                cv2.imwrite(str(root / split / name / f"{number}.png"), draw_image(20 * label, SIZE, rng))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs"), data, NAMES, "data.num_workers=0")
    calibrate(run, TEMPERATURE)
    return run


@pytest.fixture(scope="module")
def exported(run) -> Path:
    result = call(export.main, run.path, "--fp16", "--int8")
    assert result.returncode == 0, result.stderr
    return run.path / "export"


def reference(run, pixels: np.ndarray) -> np.ndarray:
    """torch's logits, normalised here once more."""
    aug = run.read_recipe().aug
    image = (pixels.astype(np.float32) / 255 - np.float32(aug.mean)) / np.float32(aug.std)
    model = load_predictor(run, run.read_recipe()).model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("num", [1, 2, 13])
def test_logits_and_probabilities_of_any_number_of_images(run, exported, num):
    pixels = np.random.default_rng(num).integers(0, 256, (num, SIZE, SIZE, 3), dtype=np.uint8)
    wanted = reference(run, pixels)
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    logits, probabilities = session.run(["logits", "probabilities"], {"image": pixels})
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    softmax = torch.softmax(torch.from_numpy(wanted), dim=1).numpy()  # nothing applies a temperature that was not asked for
    np.testing.assert_allclose(probabilities, softmax, atol=1e-5)
    half = onnxruntime.InferenceSession(exported / "model_fp16.onnx").run(["logits"], {"image": pixels})[0]
    np.testing.assert_allclose(half, wanted, atol=0.02 * np.abs(wanted).max())


def test_files_shrink_and_say_what_they_are(exported, data):
    sizes = [(exported / name).stat().st_size for name in ("model.onnx", "model_fp16.onnx", "model_int8.onnx")]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]
    for name in ("model.onnx", "model_fp16.onnx", "model_int8.onnx"):
        meta = onnxruntime.InferenceSession(exported / name).get_modelmeta().custom_metadata_map
        assert json.loads(meta["class_names"]) == ["ant", "bee", "2", "dog"]
        assert float(meta["temperature"]) == TEMPERATURE
        content = (exported / name).read_bytes()
        assert str(data).encode() not in content
        assert b"hw1/export" not in content  # where on this machine the code lies


def test_the_check_measures_what_it_says(run, exported, data):
    found = read_json(exported / "onnx_check.json")
    assert found["pictures"] == "36 images of the validation split"
    pixels = np.stack(
        [cv2.imread(str(path))[:, :, ::-1] for name in ("ant", "bee", "dog") for path in sorted((data / "val" / name).iterdir())]
    )
    labels = np.repeat([0, 1, 3], 12)
    wanted = reference(run, pixels)
    assert found["files"]["torch, FP32"]["top1"] == pytest.approx((wanted.argmax(1) == labels).mean())
    for name in ("model.onnx", "model_int8.onnx"):
        logits = onnxruntime.InferenceSession(exported / name).run(["logits"], {"image": pixels})[0]
        row = found["files"][name]
        assert row["same_top1"] == pytest.approx((logits.argmax(1) == wanted.argmax(1)).mean(), abs=0.03)
        assert row["top1"] == pytest.approx((logits.argmax(1) == labels).mean(), abs=0.03)
        assert row["images_per_second"] > 0
    assert found["files"]["model.onnx"]["max_abs_diff"] < 1e-3
    assert found["files"]["model_int8.onnx"]["max_abs_diff"] > 1e-3
    assert "| model_int8.onnx |" in (exported / "README.md").read_text()


def test_predict_takes_the_file(run, exported, data, tmp_path):
    rows = []
    for name, model in (("run", run.path), ("onnx", exported / "model.onnx")):
        options = ("--out", tmp_path / f"{name}.json", "--device", "cpu", "--temperature", "fitted")
        result = call(predict.main, model, data / "val", *options)
        assert (result.returncode, result.stderr) == (0, "")
        rows.append(read_json(tmp_path / f"{name}.json"))
    assert len(rows[0]) == 36
    for row, other in zip(*rows, strict=True):
        assert row["file"] == other["file"]
        for each, same in zip(row["predictions"], other["predictions"], strict=True):
            assert each["class"] == same["class"]
            assert each["probability"] == pytest.approx(same["probability"], abs=1e-5)


def test_predictions_with_the_file_import_no_torch(exported, data):
    """Whose import takes longer than all the rest."""
    image, model = str(data / "val" / "ant" / "0.png"), str(exported / "model.onnx")
    program = (
        "import sys; from hw1.cli import main; code = main(sys.argv[1:]); import hw1; hw1.load(sys.argv[2]).predict(sys.argv[3]);"
        "print(code, sorted({'torch', 'timm', 'albumentations', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program, "predict", model, image], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr


def test_without_data_the_check_draws_its_images_and_a_wrong_file_is_refused(run, tmp_path, monkeypatch):
    """The exporter's place is taken by one whose logits are off by a hundredth: it is seen, and nothing is exported."""
    import onnx

    from hw1.export import onnx_graph as graph

    ready = (run.path / "export/model.onnx").read_bytes()
    fresh = make_run(tmp_path, None, NAMES, "data.num_workers=0")
    monkeypatch.setattr(graph, "save_onnx", lambda path, *args, **options: path.write_bytes(ready))
    result = call(export.main, fresh.path, "--onnx")
    assert result.returncode == 0, result.stderr
    found = read_json(fresh.path / "export/onnx_check.json")
    assert found["pictures"] == "64 generated images"
    assert "top1" not in found["files"]["model.onnx"]

    model = onnx.load_from_string(ready)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("fc.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.01 * found["files"]["torch, FP32"]["max_abs_logit"])
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    ready = model.SerializeToString()
    other = make_run(tmp_path / "other", None, NAMES, "data.num_workers=0")
    result = call(export.main, other.path, "--onnx")
    assert result.returncode == 3
    assert "differ from torch's" in result.stderr
    assert not (other.path / "export").exists()
    assert not list(other.path.glob(".export*"))


def test_real_images(run, photos, tmp_path):
    """On real images, resized by Pillow as the card says."""
    from PIL import Image

    files = sorted((photos / "val" / "3").iterdir())[:8]
    pixels = np.stack([np.array(Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for path in files])
    logits = onnxruntime.InferenceSession(run.path / "export/model.onnx").run(["logits"], {"image": pixels})[0]
    np.testing.assert_allclose(logits, reference(run, pixels), rtol=1e-4, atol=1e-4)
