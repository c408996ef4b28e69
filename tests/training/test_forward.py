"""The forward pass of training: a frozen beginning without autograd gives the same step, and what may be compiled is compiled once."""

import copy

import pytest
import timm
import torch
from helpers.tiny_training import loader_of, make, make_batches, steps
from torch import nn

import hw1.models  # noqa: F401
from hw1.config.recipe import FreezeConfig
from hw1.models.freeze import freeze_stages, set_train_mode
from hw1.training import forward
from hw1.training.forward import FrozenPrefix, frozen_children
from hw1.training.train_step import train_step

FROZEN = FreezeConfig(stages=("stem", "layer1", "layer2"), bn="eval")
STEM = ["conv1", "bn1", "act1", "maxpool"]


def small(**options: object) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet18_half_cbam", num_classes=5, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize(
    ("freeze", "options", "expected"),
    [
        (FROZEN, {}, [*STEM, "layer1", "layer2"]),
        (FreezeConfig(stages=("stem", "layer1", "layer2"), bn="train"), {}, []),
        (FreezeConfig(stages=("layer1", "layer2"), bn="eval"), {}, []),
        (FreezeConfig(stages=("stem", "layer2"), bn="eval"), {}, STEM),
        (FROZEN, {"cbam_stages": (1,)}, STEM),
        (FreezeConfig(stages=("stem", "layer1", "layer2", "layer3"), bn="eval"), {"drop_layer3": 0.2}, [*STEM, "layer1", "layer2"]),
        (FROZEN, {"drop_path_rate": 0.1}, STEM),
    ],
)
def test_what_no_step_changes_and_no_chance_touches(freeze: FreezeConfig, options: dict[str, object], expected: list[str]) -> None:
    model = small(**options)
    freeze_stages(model, freeze)
    assert frozen_children(model, freeze) == expected


def test_other_models_have_no_such_beginning() -> None:
    model = timm.create_model("mobilenetv3_small_050", num_classes=5)
    freeze_stages(model, FreezeConfig(stages=("stem",), bn="eval"))
    assert frozen_children(model, FreezeConfig(stages=("stem",), bn="eval")) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_every_parameter_are_those_of_the_plain_model(dtype: torch.dtype) -> None:
    model = small().to(dtype)
    freeze_stages(model, FROZEN)
    plain = copy.deepcopy(model)
    images = torch.randn(4, 3, 32, 32, dtype=dtype)
    for each in (model, plain):
        set_train_mode(each, FROZEN)
    logits = FrozenPrefix(model, frozen_children(model, FROZEN))(images)
    expected = plain(images)
    tolerance = 1e-9 if dtype is torch.float64 else 1e-3
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)
    for each in (logits, expected):
        each.square().mean().backward()
    for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None) == (not parameter.requires_grad), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=tolerance, atol=tolerance * other.grad.abs().max().item())
    for (name, value), other in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):  # BatchNorm's statistics
        torch.testing.assert_close(value, other, rtol=tolerance, atol=tolerance, msg=name)


def test_the_beginning_follows_weights_that_are_loaded() -> None:
    sections = {"freeze": {"stages": ("stem", "layer1"), "bn": "eval"}}
    training, other = make(**sections), make(seed=2, **sections)
    steps(training, 4)
    steps(other, 4)
    other.load_state_dict(copy.deepcopy(training.state_dict()))
    images = make_batches(4)[0].image
    for each in (training, other):
        each.model.eval()
    torch.testing.assert_close(other.forward(images), training.forward(images))


def test_only_whole_batches_are_compiled_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def fake(function, **options):
        return lambda images: sizes.append(len(images)) or function(images)

    monkeypatch.setattr(torch, "compile", fake)
    training = make(train={"compile": True}, data={"batch_size": 8})
    assert training.forward.is_about_to_compile
    steps(training, 8, 8, 5)
    assert sizes == [8, 8]
    assert not training.forward.is_about_to_compile


def test_compiled_steps_equal_plain_ones() -> None:
    real, plain = torch.compile, make(data={"batch_size": 8}, freeze={"stages": ("stem", "layer1"), "bn": "eval"})
    compiled = make(train={"compile": True}, data={"batch_size": 8}, freeze={"stages": ("stem", "layer1"), "bn": "eval"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **options: real(function, backend="aot_eager", fullgraph=True, **options))
        steps(compiled, 8, 8, 5)
    steps(plain, 8, 8, 5)
    for (name, value), other in zip(plain.model.state_dict().items(), compiled.model.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-4, msg=name)


def test_training_goes_on_where_compiling_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(images):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(forward.torch, "compile", lambda function, **options: fails)
    training, plain = make(train={"compile": True}, data={"batch_size": 8}), make(data={"batch_size": 8})
    steps(training, 8, 8)
    steps(plain, 8, 8)
    assert capsys.readouterr().err == "train.compile: goes on without, as it failed: Failed to find C compiler. Please specify via CC\n"
    assert all(torch.equal(a, b) for a, b in zip(training.model.parameters(), plain.model.parameters(), strict=True))


def test_out_of_memory_is_no_failure_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(images):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(forward.torch, "compile", lambda function, **options: fails)
    training = make(train={"compile": True}, data={"batch_size": 8})
    with pytest.raises(torch.OutOfMemoryError):
        train_step(training, make_batches(8)[0], loader_of(8))
