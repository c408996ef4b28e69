"""`python -m hw1.export`: others open it with timm or onnxruntime alone and get the run's own numbers."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import timm.data
import torch
from helpers.model_runs import calibrate, call, make_run, read_json
from helpers.paths import ROOT
from PIL import Image

import hw1.export.__main__ as export
import hw1.predict.__main__ as predict
from hw1 import __version__
from hw1.config.load import load_recipe
from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_eval_transform
from hw1.data.synthetic import draw_image
from hw1.evaluation.predictor import load_predictor

NAMES = ["ant", "bee", "cow", "dog"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of each of four classes, for training and for validation."""
    root = tmp_path_factory.mktemp("data") / "secret"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for number in range(8):
                cv2.imwrite(str(root / split / name / f"{number}.png"), draw_image(20 * label, 90, rng)[: 60 + 5 * number])
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), data, NAMES, "data.num_workers=0", "train.channels_last=false")


@pytest.fixture(scope="module")
def exported(run) -> Path:
    calibrate(run, 1.7)
    result = call(export.main, run.path)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return run.path / "export"


def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)


def test_plain_timm_opens_it_with_the_same_logits_to_the_bit(run, exported):
    """In a process of its own, which imports nothing else of this project."""
    code = (
        "import sys, torch, timm, hw1.models\n"
        "model = timm.create_model(f'local-dir:{sys.argv[1]}', pretrained=True).eval()\n"
        "x = torch.load(sys.argv[2], weights_only=True)\n"
        "with torch.no_grad(): torch.save(model(x), sys.argv[2])\n"
    )
    x = torch.randn(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    file = exported.parent / "x.pt"
    torch.save(x, file)
    subprocess.run([sys.executable, "-c", code, exported, file], check=True, cwd=ROOT)
    model = load_predictor(run, run.read_recipe()).model.eval()
    with torch.no_grad():
        wanted = model(x)
    assert wanted.std() > 0.1
    assert torch.equal(torch.load(file, weights_only=True), wanted)


def test_config_says_what_the_model_is(exported):
    model = timm.create_model(f"local-dir:{exported}", pretrained=True)
    assert list(model.pretrained_cfg["label_names"]) == NAMES
    assert model.num_classes == 4
    cbam = model.layer4.cbam
    assert cbam.gate_scale == 2.0  # cbam_init=identity
    assert cbam.channel.fc1.out_features == 256 // 8
    assert "license" not in model.pretrained_cfg
    config = read_json(exported / "config.json")
    assert config["hw1"] == {"version": __version__, "checkpoint": "best", "epoch": 3, "temperature": 1.7, "amp": "off"}
    assert stat.S_IMODE((exported / "model.safetensors").stat().st_mode) == stat.S_IMODE((exported / "config.json").stat().st_mode)


def test_timm_makes_validations_preprocessing_of_it(exported):
    model = timm.create_model(f"local-dir:{exported}", pretrained=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    ours = build_eval_transform(AugConfig(size=40))
    rng = np.random.default_rng(0)
    for shape in ((40, 40), (33, 90), (211, 57), (20, 17)):
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        resized = torch.from_numpy(ours(image, (0,))).permute(2, 0, 1) / 255
        wanted = (resized - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.25, 0.3])[:, None, None]
        torch.testing.assert_close(transform(Image.fromarray(image)), wanted, rtol=0, atol=1e-6)


def test_predict_says_of_the_export_what_it_says_of_the_run(run, exported, data, tmp_path):
    for name, model in (("run", run.path), ("export", exported)):
        for temperature in ("1", "fitted"):
            options = ("--out", tmp_path / f"{name} {temperature}.json", "--device", "cpu", "--temperature", temperature)
            result = call(predict.main, model, data / "val", *options)
            assert (result.returncode, result.stderr) == (0, "")
    for temperature in ("1", "fitted"):
        rows = [read_json(tmp_path / f"{name} {temperature}.json") for name in ("run", "export")]
        assert len(rows[0]) == 32
        assert_same_rows(*rows, rel=1e-4)
    refused = call(predict.main, exported, data / "val", "--checkpoint", "last")
    assert (refused.returncode, "--checkpoint" in refused.stderr) == (2, True)


def assert_same_rows(rows, others, rel):
    for row, other in zip(rows, others, strict=True):
        assert row["file"] == other["file"]
        assert [each["class"] for each in row["predictions"]] == [each["class"] for each in other["predictions"]]
        found = [each["probability"] for each in other["predictions"]]
        assert [each["probability"] for each in row["predictions"]] == pytest.approx(found, rel=rel)


def test_the_card_has_the_runs_numbers_and_none_of_its_paths(run, exported, data):
    text = (exported / "README.md").read_text()
    assert re.search(r"\| val \| top-1 accuracy \| 0\.5000 \| *\|", text)
    for fact in ("ant, bee, cow, dog", "training images: 20", "commit: 0123abc with changes", "torch 2.0", "1.7000", "Apache-2.0"):
        assert fact in text, fact
    for file in exported.iterdir():
        assert str(data).encode() not in file.read_bytes(), file
        assert str(run.path).encode() not in file.read_bytes(), file
    recipe = re.search("```yaml\n(.*?)```", text, re.DOTALL)
    (run.path.parent / "again.yaml").write_text(recipe[1])
    again = load_recipe(run.path.parent / "again.yaml")
    assert again.model_copy(update={"data": run.read_recipe().data}).aug == run.read_recipe().aug
    assert (again.data.root, again.model) == (None, run.read_recipe().model)


def test_the_card_takes_evaluations_of_these_very_weights(run, exported):
    metrics = {"checkpoint": "best", "epoch": 3, "top1": 0.75, "top1_interval": [0.6, 0.85], "num_images": 32}
    for split, epoch in (("val", 3), ("other", 2)):
        run.eval_dir(split).mkdir(parents=True, exist_ok=True)
        run.write_json(run.eval_dir(split) / "metrics.json", {**metrics, "epoch": epoch})
    assert call(export.main, run.path).returncode == 0
    text = (exported / "README.md").read_text()
    assert "| val | top-1 accuracy | 0.7500 | 0.6000 to 0.8500 | 32 |" in text
    assert "0.5000" not in text
    assert "| other |" not in text


def test_an_export_is_replaced_only_by_a_whole_one(run, exported, monkeypatch):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    result = call(export.main, run.path)
    assert result.returncode == 3
    assert "No space left on device" in result.stderr
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert not list(run.path.glob(".export*"))
    monkeypatch.undo()
    (exported / "old").touch()
    assert call(export.main, run.path).returncode == 0
    assert not (exported / "old").exists()
    assert not list(run.path.glob(".export*"))


def test_mistakes_are_one_line_and_leave_nothing(run, tmp_path, monkeypatch):
    fresh = make_run(tmp_path, None, NAMES)
    (fresh.path / "export").mkdir()
    (fresh.path / "export/notes.txt").touch()
    cases = [
        ([tmp_path], "no run folder"),
        ([fresh.path], "is no export of a model"),
        ([run.path, "aug.size=32"], "aug.size: 40 -> 32: cannot change after training"),
        ([run.path, "--checkpoint", "last"], "checkpoints: no such checkpoint"),
        ([run.path, "data.root=nowhere", "--int8"], "--int8: takes ranges from training images"),
    ]
    for arguments, message in cases:
        result = call(export.main, *arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert message in result.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    result = call(export.main, run.path, "--onnx")
    assert result.returncode == 2
    assert result.stderr == "ONNX: onnxscript is not installed; pip install -r requirements-onnx.txt\n"
    assert not list(run.path.glob(".export*"))


def test_push_uploads_the_whole_folder_and_names_what_fails(run, monkeypatch):
    """With a stand-in for the hub: what is called, not whether the hub takes it."""
    calls = []
    monkeypatch.setattr("huggingface_hub.create_repo", lambda name, **options: calls.append((name, options)))
    monkeypatch.setattr(
        "huggingface_hub.upload_folder", lambda **options: calls.append(sorted(p.name for p in options["folder_path"].iterdir()))
    )
    assert call(export.main, run.path, "--push-to-hub", "me/model").returncode == 0
    assert calls == [("me/model", {"private": True, "exist_ok": True}), ["README.md", "config.json", "model.safetensors"]]

    def offline(*args, **kwargs):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.create_repo", offline)
    result = call(export.main, run.path, "--push-to-hub", "me/model")
    assert (result.returncode, result.stderr) == (3, "--push-to-hub me/model: no network at all; the export itself is complete\n")


def test_a_model_of_timm_that_has_a_fixed_size(tmp_path):
    run = make_run_of_vit(tmp_path)
    assert call(export.main, run.path).returncode == 0
    opened = timm.create_model(f"local-dir:{run.path / 'export'}", pretrained=True).eval().to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(opened(x), load_predictor(run, run.read_recipe()).model.eval()(x))
    assert timm.data.resolve_model_data_config(opened)["input_size"] == (3, 64, 64)


def make_run_of_vit(folder: Path):
    from hw1.models.factory import build_model
    from hw1.runs.checkpoint import save_weights
    from hw1.runs.folder import RunFolder
    from hw1.runs.status import start_folder

    keys = ["model.name=test_vit", "model.cbam_stages=[]", "model.drop_layer3=0", "model.pretrained=false", "aug.size=64"]
    recipe = load_recipe(ROOT / "recipes/base.yaml", ["run.name=vit", f"run.dir={folder}", *keys, "freeze.stages=[]", "train.amp=off"])
    run = RunFolder.of(recipe)
    start_folder(run, recipe, fresh=True)
    model = build_model(recipe.model, 4, load_weights=False, image_size=64)
    save_weights(run.best, model.state_dict(), {"classes": NAMES, "epoch": 1, "val_top1": 0.5, "val_loss": 2.0})
    return run
