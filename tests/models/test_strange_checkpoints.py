"""`model.weights` as other programs save them: loaded to the bit, with one line that says what was changed, or refused with the reason."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from helpers.strange_checkpoints import BESIDE, SAVERS, WITHOUT_WEIGHTS, WRAPPED, Weights, prefixed, save_safetensors

from hw1.config.recipe import ModelConfig
from hw1.errors import UserError
from hw1.models.factory import build_model
from hw1.models.fit_weights import fit_names
from hw1.models.weights import read_weights

NAME = "test_resnet"  # timm's smallest ResNet


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(1)
    return timm.create_model(NAME, num_classes=5).state_dict()


def load(path: Path, num_classes: int = 5, name: str = NAME) -> tuple[dict[str, torch.Tensor], str]:
    """Return the model's weights and the line that is told."""
    lines: list[str] = []
    options = {} if "cbam" in name else {"cbam_stages": (), "drop_layer3": 0.0}
    config = ModelConfig(name=name, weights=str(path), **options)
    model = build_model(config, num_classes, tell=lines.append)
    assert "state_dict" not in model.pretrained_cfg  # a second copy in memory
    (line,) = lines
    assert line.startswith(f"model.weights: {path}: ")
    return model.state_dict(), line


def refusal(path: Path, name: str = NAME) -> str:
    with pytest.raises(UserError) as caught:
        load(path, name=name)
    (line,) = caught.value.problems
    assert line.startswith(f"model.weights: {path}: ")
    assert line.isprintable()
    assert "weights_only" not in line  # torch's advice to load it unsafely
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
def test_what_lies_beside_the_weights_does_not_matter(tmp_path: Path, weights: Weights, saver: Callable[..., None]) -> None:
    path = tmp_path / "weights.pth"
    for what, make in BESIDE.items():
        if saver is SAVERS["legacy"] and what == "module":
            continue  # a module is saved with its source code
        saver({"epoch": 3, "beside": make(), "state_dict": weights}, path)
        found = read_weights(path)
        assert found.taken_from == "state_dict"
        assert list(found.state_dict) == list(weights), what
        assert all(torch.equal(found.state_dict[name], value) for name, value in weights.items()), what


def test_classes_beside_the_weights_are_not_imported(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where their module is at hand: this one writes a file when it is imported."""
    (tmp_path / "foreign_program.py").write_text(f"class Config:\n    pass\nopen({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = importlib.import_module("foreign_program").Config()
    torch.save({"net": weights, "config": config}, tmp_path / "weights.pth")
    del sys.modules["foreign_program"]
    (tmp_path / "imported").unlink()
    assert list(read_weights(tmp_path / "weights.pth").state_dict) == list(weights)
    assert not (tmp_path / "imported").exists()
    torch.serialization.load(tmp_path / "weights.pth", weights_only=False)  # the trap works
    assert (tmp_path / "imported").exists()


@pytest.mark.parametrize(("wrap", "said"), WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_however_they_are_wrapped(tmp_path: Path, weights: Weights, wrap: Callable[..., object], said: str) -> None:
    torch.save(wrap(weights), tmp_path / "weights.pth")
    state, line = load(tmp_path / "weights.pth")
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert said in line


@pytest.mark.parametrize(("save", "said"), WITHOUT_WEIGHTS.values(), ids=WITHOUT_WEIGHTS)
def test_a_file_without_weights_is_named_for_what_it_is(tmp_path: Path, weights: Weights, save: Callable[..., None], said: str) -> None:
    save(weights, tmp_path / "weights.pth")
    assert said in refusal(tmp_path / "weights.pth")


def test_the_content_decides_not_the_name(tmp_path: Path, weights: Weights) -> None:
    save_safetensors(weights, tmp_path / "a.pth")
    torch.save(dict(weights), tmp_path / "b.safetensors")
    torch.save(dict(weights), tmp_path / "c.safetensors", _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        state, _ = load(path)
        assert all(torch.equal(state[name], value) for name, value in weights.items())


def test_what_becomes_of_the_classifier_is_told(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "weights.pth"
    torch.save(dict(weights), path)
    assert load(path)[1].endswith(": kept its classifier of 5 classes, which must be those of the data in the same order")
    assert load(path, 7)[1].endswith(": new classifier of 7 classes in place of its 5")
    torch.save({name: value for name, value in weights.items() if not name.startswith("fc.")}, path)
    assert load(path, 7)[1].endswith(": new classifier of 7 classes, as it has none")
    torch.save({name.replace("fc.", "fc.2."): value for name, value in weights.items()}, path)  # MoCo's of two layers
    assert load(path, 7)[1].endswith(": left out fc.2.weight, fc.2.bias; new classifier of 7 classes, as it has none")


def test_new_cbams_are_told(tmp_path: Path) -> None:
    plain = timm.create_model("resnet18_half_cbam", num_classes=5, cbam_stages=())
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    assert ": new CBAM after layer4; kept" in load(tmp_path / "weights.pth", name="resnet18_half_cbam")[1]


@pytest.mark.parametrize("name", [NAME, "resnet18_half_cbam"])
def test_weights_of_another_model_are_told_apart(tmp_path: Path, name: str) -> None:
    """In place of a library's list of hundreds of keys: some, how many, and what the file holds."""
    other = prefixed(timm.create_model("test_vit", num_classes=5).state_dict(), "net.")
    torch.save({"state_dict": other}, tmp_path / "weights.pth")
    line = refusal(tmp_path / "weights.pth", name)
    assert f"the weights do not fit {name}: missing conv1." in line
    assert "unexpected net.cls_token, net.pos_embed" in line
    assert f"the file holds {len(other)} tensors in state_dict: net.cls_token" in line


def test_a_missing_tensor_is_named_behind_a_prefix(tmp_path: Path, weights: Weights) -> None:
    torch.save(prefixed({name: value for name, value in weights.items() if name != "layer1.0.conv1.weight"}, "model."), tmp_path / "w.pth")
    assert f"do not fit {NAME}: missing layer1.0.conv1.weight; the file" in refusal(tmp_path / "w.pth")


def test_names_that_do_not_print_are_refused(tmp_path: Path, weights: Weights) -> None:
    torch.save({**weights, "a\x1b[31m\nb": torch.ones(1)}, tmp_path / "w.pth")
    assert "under names that no model has" in refusal(tmp_path / "w.pth")
    torch.save({"a\x1b[31m\nb": 3}, tmp_path / "w.pth")
    assert r"'a\x1b[31m\nb (int)'" in refusal(tmp_path / "w.pth")


def test_a_prefix_is_stripped_only_where_that_fits_better() -> None:
    one = torch.ones(1)
    names = ["a.w", "a.b", "c.w", "c.b"]
    assert fit_names(dict.fromkeys(names, one) | {"x.a.w": one}, names).prefix == ""
    assert fit_names({"x.a.w": one, "x.a.b": one}, names).prefix == ""  # half of the model: as likely another's
    assert fit_names({"x.a.w": one, "x.a.b": one, "x.c.w": one}, names)[1:] == ("x.", [])
    assert list(fit_names({"module.z": one}, names).state_dict) == ["z"]
