"""Depthwise convolutions in bf16: outputs are torch's, gradients are as near to those in float64 as torch's own."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from hw1.models.depthwise import DepthwiseConv2d, DepthwiseConv2dSame, use_fast_depthwise

CASES = [
    (kind, *rest) for kind in (nn.Conv2d, Conv2dSame) for rest in ((3, 1, True), (3, 2, False), (5, 1, False), (5, 2, True), (7, 1, True))
]


def gradients(conv: nn.Module, x: torch.Tensor, factor: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    (conv(x) * factor).sum().backward()
    return [x.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize(("kind", "kernel", "stride", "bias"), CASES)
def test_gradients_in_bf16_are_as_good_as_torchs(kind, kernel, stride, bias):
    torch.manual_seed(0)
    plain = kind(12, 12, kernel, stride=stride, padding=kernel // 2, groups=12, bias=bias).to(memory_format=torch.channels_last)
    ours = nn.Sequential(copy.deepcopy(plain))
    use_fast_depthwise(ours)
    assert type(ours[0]) is (DepthwiseConv2d if kind is nn.Conv2d else DepthwiseConv2dSame)
    x = torch.randn(6, 12, 9, 10).to(memory_format=torch.channels_last)
    factor = torch.randn_like(plain(x))
    exact = gradients(copy.deepcopy(plain).double(), x.double(), factor.double())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours(x), plain(x), rtol=0.01, atol=0.01)
        assert ours(x).dtype == torch.bfloat16
        errors = [
            [float((ours - right).norm() / right.norm()) for ours, right in zip(gradients(conv, x, factor), exact, strict=True)]
            for conv in (plain, ours[0])
        ]
    assert all(parameter.grad.dtype == torch.float32 for parameter in ours.parameters())
    for theirs, own in zip(*errors, strict=True):
        assert own < max(1.3 * theirs, 0.005)


def test_in_float32_and_without_gradients_it_is_torchs(monkeypatch):
    def fail(*_):
        raise AssertionError("not here")

    ours = nn.Sequential(nn.Conv2d(8, 8, 5, stride=2, groups=8))
    use_fast_depthwise(ours)
    monkeypatch.setattr("hw1.models.depthwise._convolve", fail)
    ours(torch.randn(2, 8, 9, 9)).sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours(torch.randn(2, 8, 9, 9))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(AssertionError, match="not here"):
        ours(torch.randn(2, 8, 9, 9))


def test_others_are_left_alone():
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(1, 1, 3), nn.Conv2d(8, 8, 3, groups=8).double()
    )
    use_fast_depthwise(model)
    assert [type(module) for module in model] == [nn.Conv2d] * 4


@pytest.mark.parametrize("frozen", ["weight", "input"])
def test_what_is_frozen_gets_no_gradient(frozen):
    ours = nn.Sequential(nn.Conv2d(8, 8, 5, stride=2, groups=8, bias=False))
    use_fast_depthwise(ours)
    ours.requires_grad_(frozen != "weight")
    x = torch.randn(2, 8, 9, 9, requires_grad=frozen != "input")
    with torch.autocast("cpu", torch.bfloat16):
        ours(x).sum().backward()
    assert (x.grad is None, ours[0].weight.grad is None) == (frozen == "input", frozen == "weight")
