"""Convolutions with weights in oneDNN's order against torch's own."""

import copy

import pytest
import torch
from torch import nn

from hw1.models import packed_conv
from hw1.models.packed_conv import PackedConv2d, use_packed_conv

CASES = {
    "plain": ((6, 8, 3), {"padding": 1}),
    "strided": ((6, 8, 3), {"stride": 2, "padding": 1, "bias": False}),
    "pointwise": ((6, 8, 1), {}),
    "grouped": ((8, 16, 3), {"padding": 1, "groups": 4}),
    "depthwise": ((8, 8, 5), {"padding": 2, "groups": 8, "bias": False}),
    "dilated": ((6, 8, 3), {"padding": 2, "dilation": 2}),
    "one channel": ((1, 4, (3, 5)), {"padding": (1, 0)}),
}


@pytest.fixture(params=CASES)
def convolutions(request: pytest.FixtureRequest) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's convolution, and the same one packed."""
    torch.manual_seed(0)
    sizes, options = CASES[request.param]
    plain = nn.Conv2d(*sizes, **options).to(memory_format=torch.channels_last)
    packed = nn.Sequential(copy.deepcopy(plain))
    use_packed_conv(packed)
    assert isinstance(packed[0], PackedConv2d)
    return plain, packed[0]


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 9, 9), (5, 6, 11)])
def test_outputs_are_torchs_whatever_the_size_of_the_first_input(convolutions, shape):
    plain, packed = convolutions
    for images, height, width in ((2, 7, 8), shape):
        x = torch.randn(images, plain.in_channels, height, width).to(memory_format=torch.channels_last)
        torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(packed(x), plain(x), rtol=0.02, atol=0.02)
            assert packed(x).dtype == torch.bfloat16
        torch.testing.assert_close(packed(x.contiguous()), plain(x), rtol=1e-5, atol=1e-6)  # NCHW is left to torch
    assert set(packed._packed) == {torch.float32, torch.bfloat16}


def test_with_gradients_it_is_torchs_convolution(convolutions):
    plain, packed = convolutions
    x = torch.randn(2, plain.in_channels, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    for conv in (plain, packed):
        conv(x).square().sum().backward()
    assert packed._packed == {}
    torch.testing.assert_close(packed.weight.grad, plain.weight.grad)


def test_what_torch_does_not_have_is_left_alone(monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding_mode="circular", padding=1), nn.Conv2d(4, 4, 1).double()
    )
    use_packed_conv(model)
    assert [type(module) for module in model] == [nn.Conv2d] * 3
    monkeypatch.setattr(packed_conv, "CONVOLVE", "_no_such_operator")
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    use_packed_conv(model)
    assert type(model[0]) is nn.Conv2d
