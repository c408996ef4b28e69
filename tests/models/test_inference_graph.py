"""`InferenceGraph`: the outputs of the model itself, whatever the shapes and the order in which they come."""

from itertools import pairwise

import pytest
import timm
import torch
from torch import Tensor, nn

import hw1.models  # noqa: F401  registers the *_cbam models
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.models.inference_graph import InferenceGraph
from tests.models.test_fuse_batchnorm import trained


def calls(graph: InferenceGraph) -> str:
    """The code that the first batch of a shape runs."""
    return str(graph.layers.code)


@pytest.mark.parametrize("name", ["resnet18_cbam", "tf_efficientnet_lite0", "mobilenetv3_small_050", "densenet121"])
def test_every_batch_of_every_shape_and_precision_agrees(name: str) -> None:
    model = trained(timm.create_model(name, num_classes=7)).eval().to(memory_format=torch.channels_last)
    fused = fuse_batchnorm(model)
    assert isinstance(fused, InferenceGraph)
    assert fuse_batchnorm(fused) is fused
    for batch, size in ((2, 64), (2, 64), (1, 64), (2, 64), (1, 96), (1, 32), (1, 32), (3, 32), (3, 32)):
        images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = model(images)
            scale = expected.abs().max().item()
            torch.testing.assert_close(fused(images), expected, rtol=1e-3, atol=1e-3 * scale)
            with torch.autocast("cpu", torch.bfloat16):
                low = model(images).float()
                apart = (fused(images).float() - expected).norm()
            assert apart < 2 * (low - expected).norm() + 0.01 * expected.norm()
            torch.testing.assert_close(fused(images.contiguous()), expected, rtol=1e-3, atol=1e-3 * scale)
    torch.testing.assert_close(fused(images), model(images), rtol=1e-3, atol=1e-3 * scale)  # with gradients it is torch's


def test_a_residual_network_has_no_pass_of_its_own_for_additions_and_activations() -> None:
    code = calls(fuse_batchnorm(timm.create_model("resnet18")))
    assert code.count("residual") == 8
    assert code.count("activation = 'relu'") == 17
    assert "act" not in code.replace("activation", "")
    assert " + " not in code


class Awkward(nn.Module):
    """Values that are read again after an addition, added to themselves, to a constant or to another shape; an activation used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        first = self.a(x)
        second = self.b(first)
        third = first + second
        fourth = self.c(self.act(third)) + first.flip(3)
        shared = self.a(self.pool(fourth)) + fourth
        twice = self.b(shared)
        doubled = twice + twice
        alone = torch.add(self.c(doubled), x, alpha=2)
        kept = self.b(alone)
        return self.act(kept) + kept + self.act(self.c(kept) + 1) + third


@torch.inference_mode()
def test_values_that_are_read_again_are_not_overwritten() -> None:
    torch.manual_seed(0)
    model = Awkward().eval().to(memory_format=torch.channels_last)
    fused = fuse_batchnorm(model)
    for _ in range(3):
        x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
        before = x.clone()
        torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-4)
        assert torch.equal(x, before)


@torch.inference_mode()
def test_outputs_are_not_overwritten_by_the_next_batch() -> None:
    fused = fuse_batchnorm(trained(timm.create_model("resnet18", num_classes=3)))
    images = [torch.randn(1, 3, 32, 32).to(memory_format=torch.channels_last) for _ in range(4)]
    outputs = [fused(image) for image in images]
    copies = [output.clone() for output in outputs]
    fused(images[0])
    assert all(map(torch.equal, outputs, copies))
    assert not any(torch.equal(one, other) for one, other in pairwise(outputs))


def test_a_model_whose_structure_changed_is_traced_anew() -> None:
    model = trained(timm.create_model("resnet18", num_classes=3)).eval()
    images = torch.randn(1, 3, 32, 32)
    for change in (lambda: None, lambda: model.reset_classifier(0, "max"), lambda: setattr(model, "act1", nn.SiLU())):
        change()
        with torch.inference_mode():
            torch.testing.assert_close(fuse_batchnorm(model)(images), model(images), rtol=1e-4, atol=1e-4)


def test_more_shapes_than_are_remembered_are_computed_all_the_same() -> None:
    fused = fuse_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    with torch.inference_mode():
        for size in (*range(4, 30), *range(4, 30)):
            assert fused(torch.ones(1, 3, size, size)).shape == (1, 4, size - 2, size - 2)
    assert len(fused._direct) == 16
