"""`fuse_batchnorm`: the outputs of the model itself, and a model that stays as it was."""

import pytest
import timm
import torch
from torch import nn

import hw1.models  # noqa: F401  registers the *_cbam models
from hw1.evaluation.ensemble import TestTimeAugmentation
from hw1.models.conv_matmul import MatmulConv2d
from hw1.models.fuse_batchnorm import fuse_batchnorm


def trained(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters as training leaves them, not the identity that they start as."""
    rng = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5), (module.running_mean, -0.5, 0.5)):
                tensor.data.uniform_(low, high, generator=rng)
            module.running_var.uniform_(0.5, 2.0, generator=rng)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet18_cbam", 0), ("resnet18d", 0), ("mobilenetv3_small_050", 0), ("efficientnet_b0", 0), ("resnet50", 0), ("densenet121", 62)],
)
def test_outputs_agree_with_as_many_norms_fused_as_can_be(name: str, left: int) -> None:
    model = trained(timm.create_model(name, num_classes=7)).train()
    images = torch.randn(2, 3, 64, 64)
    fused = fuse_batchnorm(model)
    assert norms(fused) == left
    assert not any(module.training for module in fused.modules())
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        expected = model.eval()(images)
        torch.testing.assert_close(fused(images), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_the_model_keeps_its_tensors_and_its_memory_order() -> None:
    model = trained(timm.create_model("resnet18_cbam", num_classes=3)).to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse_batchnorm(model)
    assert fused.get_submodule("layers.layer1.0.conv1").weight.is_contiguous(memory_format=torch.channels_last)
    assert fused.get_submodule("layers.fc").weight is model.fc.weight
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.fc.weight.grad = None
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert model.conv1.weight.grad is not None


def test_averages_of_views_are_fused_too() -> None:
    model = trained(timm.create_model("resnet18_cbam", num_classes=3)).eval()
    for tta in ("flip", "crops"):
        views = TestTimeAugmentation(model, tta, 32)
        fused = fuse_batchnorm(views)
        assert norms(fused) == 0
        images = torch.randn(2, 3, views.input_size, views.input_size)
        with torch.no_grad():
            torch.testing.assert_close(fused(images), views(images), rtol=1e-4, atol=1e-4)


class Shared(nn.Module):
    """One convolution before two norms, one norm behind two convolutions, one convolution whose own output is used as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.n1, self.n2, self.n3, self.n4, self.n5 = (nn.BatchNorm2d(3) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.a(x)
        kept = self.d(x)
        return self.n1(shared) + self.n2(shared) + self.n3(self.b(x)) + self.n3(self.c(x)) + self.n4(kept) + kept + self.n5(x)


def test_what_serves_twice_is_left_alone() -> None:
    model = trained(Shared()).eval()
    fused = fuse_batchnorm(model)
    assert norms(fused) == 5
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(fused(x), model(x))


def test_convolutions_are_products_where_that_is_faster() -> None:
    """As in training; `test_conv_matmul.py` tests what they compute."""
    fused = fuse_batchnorm(timm.create_model("resnet18_cbam", num_classes=3))
    assert isinstance(fused.get_submodule("layers.layer4.1.conv2"), MatmulConv2d)


@pytest.mark.parametrize("broken", ["layer1.0.conv1.weight", "layer1.0.bn1.running_var"])
def test_what_is_not_finite_stays_visible(broken: str) -> None:
    """A ReLU that is computed in the convolution makes zeros of NaN."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5).to(memory_format=torch.channels_last).eval()
    model.state_dict()[broken][:1] = -1.0 if "var" in broken else torch.nan
    fused = fuse_batchnorm(model)
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(3):
            assert torch.isnan(fused(images)).all()
