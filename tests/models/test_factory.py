"""`build_model`: weights from local files and from timm, and what may be missing from them."""

import argparse
import socket
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch

from hw1.config.recipe import ModelConfig
from hw1.errors import UserError
from hw1.models import hub
from hw1.models.factory import build_model

PLAIN = {"cbam_stages": (), "drop_layer3": 0.0}


def config(**kwargs):
    return ModelConfig(**({"name": "resnet18_cbam", "pretrained": False} | kwargs))


def problems(num_classes=5, **kwargs):
    with pytest.raises(UserError) as caught:
        build_model(config(**kwargs), num_classes)
    return list(caught.value.problems)


def plain_weights(num_classes=1000, arch="resnet18", seed=1):
    """A state dict of timm's plain model, without anything of ours."""
    torch.manual_seed(seed)
    return timm.create_model(arch, num_classes=num_classes).state_dict()


@pytest.fixture(scope="module")
def imagenet_weights():
    return plain_weights()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("touched the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def assert_backbone(model, weights, with_head=False):
    state = model.state_dict()
    names = [name for name in weights if with_head or not name.startswith("fc.")]
    assert len(names) == len(weights) - (0 if with_head else 2)
    assert all(torch.equal(state[name], weights[name]) for name in names)


# --- from a local file


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("num_classes", [100, 1000])
def test_local_weights_at_any_head(tmp_path, no_network, imagenet_weights, suffix, num_classes):
    path = tmp_path / f"weights{suffix}"
    save = torch.save if suffix == ".pth" else safetensors.torch.save_file
    save(imagenet_weights, path)
    model = build_model(config(weights=str(path), pretrained=True), num_classes)  # weights come before pretrained
    assert_backbone(model, imagenet_weights, with_head=num_classes == 1000)
    assert model.num_classes == model.fc.out_features == num_classes
    assert model.training
    assert model.layer4.cbam.channel.fc1.weight.std() > 0
    assert model.drop_rate == 0.5
    assert model.layer3.drop.p == 0.2


def wrap_nothing(weights):
    return weights


def wrap_in_data_parallel(weights):
    return {"state_dict": {f"module.{name}": value for name, value in weights.items()}, "args": argparse.Namespace(lr=0.1), "epoch": 3}


def wrap_in_compiled(weights):
    return {"model": {f"_orig_mod.{name}": value for name, value in weights.items()}}


@pytest.mark.parametrize("wrap", [wrap_nothing, wrap_in_data_parallel, wrap_in_compiled])
def test_training_checkpoints_are_unwrapped(tmp_path, wrap):
    weights = plain_weights(num_classes=5)
    torch.save(wrap(weights), tmp_path / "checkpoint.pth")
    assert_backbone(build_model(config(weights=str(tmp_path / "checkpoint.pth")), 5), weights, with_head=True)


def test_weights_without_a_head(tmp_path):
    weights = {name: value for name, value in plain_weights(5).items() if not name.startswith("fc.")}
    torch.save(weights, tmp_path / "backbone.pth")
    model = build_model(config(weights=str(tmp_path / "backbone.pth")), 7)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert model.fc.out_features == 7


@pytest.mark.parametrize("stages", [(4,), (1, 4)])
def test_a_cbam_in_the_file_is_loaded_and_others_are_new(tmp_path, stages):
    trained = build_model(config(), 5)
    path = tmp_path / "trained.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path)
    model = build_model(config(weights=str(path), cbam_stages=stages), 5)
    assert_backbone(model, trained.state_dict(), with_head=True)


def test_old_files_may_lack_batch_counters(tmp_path):
    weights = {name: value for name, value in plain_weights(5).items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "old.pth")
    model = build_model(config(weights=str(tmp_path / "old.pth")), 5)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())


def test_any_timm_model_from_a_file(tmp_path, no_network):
    """Built for one image size, with position embeddings that timm fits to another."""
    weights = plain_weights(11, arch="test_vit")
    torch.save(weights, tmp_path / "vit.pth")
    model = build_model(config(name="test_vit", weights=str(tmp_path / "vit.pth"), **PLAIN), 3, image_size=64)
    state = model.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in weights if not name.startswith(("head", "pos_embed")))
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    assert state["pos_embed"].shape[1] < weights["pos_embed"].shape[1]


def save_of_resnet18(path):
    torch.save(plain_weights(5), path)


def save_other_architecture(path):
    torch.save(plain_weights(5, arch="test_resnet"), path)


def save_text(path):
    path.write_text("no weights\n")


def save_torn(path):
    save_of_resnet18(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Intruder:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save_code(path):
    torch.save({"state_dict": plain_weights(5), "args": Intruder(path.with_name("intruder"))}, path)


def save_numbers(path):
    torch.save({"accuracy": 0.9, "epoch": 3}, path)


@pytest.mark.parametrize("save", [save_other_architecture, save_text, save_torn, save_code, save_numbers])
@pytest.mark.parametrize("options", [{}, {"name": "resnet18", **PLAIN}], ids=["ours", "timms"])
def test_a_file_that_does_not_fit_is_one_line(tmp_path, save, options):
    path = tmp_path / "weights.pth"
    save(path)
    (line,) = problems(weights=str(path), **options)
    assert line.startswith(f"model.weights: {path}: ")
    assert "\n" not in line
    assert len(line) < 900
    assert not (tmp_path / "intruder").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", ""])
def test_a_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    assert problems(weights=str(path)) == [f"model.weights: {path}: no such file"]
    assert problems(weights=str(path), name="resnet18", **PLAIN) == [f"model.weights: {path}: no such file"]


def test_without_loading_no_file_is_read(tmp_path, no_network):
    (tmp_path / "rubbish.pth").write_text("rubbish")
    for name in ("rubbish.pth", "gone.pth"):
        model = build_model(config(weights=str(tmp_path / name), pretrained=True), 4, load_weights=False)
        assert model.fc.out_features == 4


# --- from timm


@pytest.fixture
def hub_at(monkeypatch, tmp_path):
    """Points the hub's client to another server, with an empty cache."""

    def point(address):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    return point


def test_without_internet_one_line_says_what_to_fetch(hub_at):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refused
        hub_at(f"http://127.0.0.1:{unused.getsockname()[1]}")
        start = time.monotonic()
        (line,) = problems(name="resnext101_32x8d_cbam", pretrained=True)
    assert time.monotonic() - start < 5
    assert line.startswith("model.pretrained: ")
    for part in (
        "model.safetensors of https://huggingface.co/timm/resnext101_32x8d.tv2_in1k",
        "https://download.pytorch.org/models/resnext101_32x8d-110c445d.pth",
        "tag tv2_in1k",
        "set model.weights",
    ):
        assert part in line


def test_a_silent_server_is_not_waited_for(hub_at, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hub_at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        (line,) = problems(pretrained=True)
    assert time.monotonic() - start < 5
    assert "cannot be reached" in line


def test_offline_mode_is_respected(hub_at, monkeypatch, no_network):
    hub_at("http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (line,) = problems(name="resnet50.tv_in1k", pretrained=True, **PLAIN)
    assert "HF_HUB_OFFLINE is set" in line
    assert "timm/resnet50.tv_in1k" in line


@pytest.mark.parametrize("num_classes", [100, 1000])
def test_weights_in_the_hubs_cache_need_no_network(tmp_path, hub_at, no_network, imagenet_weights, num_classes):
    hub_at("http://127.0.0.1:9")
    repository = tmp_path / "hub" / "models--timm--resnet18.tv_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(imagenet_weights, snapshot / "model.safetensors")
    for name in ("resnet18_cbam", "resnet18_cbam.tv_in1k"):
        assert_backbone(build_model(config(name=name, pretrained=True), num_classes), imagenet_weights, with_head=num_classes == 1000)
