"""Convolutions over small maps: the gradients that torch computes in float64 from the definition, torch's own outputs, the same state."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw1.models import small_maps
from hw1.models.small_maps import SmallMapConv2d, use_small_map_products


def swapped(*args: object, **kwargs: object) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A convolution in NHWC memory order as torch has it, and the same one as it is here."""
    torch.manual_seed(0)
    plain = nn.Conv2d(*args, **kwargs).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
    ours = nn.Sequential(copy.deepcopy(plain))
    use_small_map_products(ours)
    return plain, ours[0]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(2, 3, 1, 1), (3, 3, 1, 1), (6, 3, 2, 1), (7, 3, 1, 1), (5, 5, 2, 0), (1, 3, 2, 1), (4, 7, 3, 3)],
)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_the_definition(size: int, kernel: int, stride: int, padding: int, bias: bool) -> None:
    plain, ours = swapped(6, 8, kernel, stride=stride, padding=padding, bias=bias)
    assert isinstance(ours, SmallMapConv2d)
    x = torch.randn(5, 6, size, size).to(memory_format=torch.channels_last).requires_grad_()
    output = ours(x)
    factor = torch.randn_like(output)
    (output * factor).sum().backward()
    # unfold writes the convolution out as one matrix product; in float64 its gradient is exact to float32's eyes
    exact = x.detach().double().contiguous().requires_grad_()
    weight = plain.weight.detach().double().contiguous().requires_grad_()
    columns = F.unfold(exact, kernel, padding=padding, stride=stride)
    product = (weight.flatten(1) @ columns).view(output.shape)
    torch.testing.assert_close(ours(x) - ours.bias.view(-1, 1, 1) if bias else ours(x), product.float(), rtol=1e-4, atol=1e-5)
    (product * factor.double()).sum().backward()
    torch.testing.assert_close(ours.weight.grad, weight.grad.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-4, atol=1e-5)
    assert ours.weight.grad.stride() == ours.weight.stride()  # torch's fused optimizers take that for granted
    if bias:
        torch.testing.assert_close(ours.bias.grad, factor.sum((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_only_what_it_is_made_for_goes_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real = small_maps._Products.apply
    monkeypatch.setattr(small_maps._Products, "apply", lambda *args: used.append(args[0].shape) or real(*args))
    _, ours = swapped(4, 4, 3, padding=1)
    ours(torch.randn(1, 4, 8, 8))
    with torch.no_grad():
        ours(torch.randn(1, 4, 4, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours(torch.randn(1, 4, 2, 2))
    ours.requires_grad_(False)
    ours(torch.randn(1, 4, 2, 2))
    assert used == []
    ours.requires_grad_(True)
    ours(torch.randn(1, 4, 7, 7))
    assert used == [(1, 4, 7, 7)]
    with torch.inference_mode():
        ours(torch.randn(8, 4, 3, 3))
        ours(torch.randn(16, 4, 3, 3))
    assert used == [(1, 4, 7, 7), (16, 4, 3, 3)]


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 1), (5, 2), (6, 2)])
def test_without_autograd_the_output_is_torchs_own(size: int, stride: int) -> None:
    plain, ours = swapped(6, 8, 3, stride=stride, padding=1)
    x = torch.randn(16, 6, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"dilation": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}, {"kernel_size": 1}]
)
def test_other_convolutions_stay_torchs_own(options: dict[str, object]) -> None:
    _, ours = swapped(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options})
    assert type(ours) is nn.Conv2d


def test_state_dict_and_copies_are_as_before() -> None:
    plain, ours = swapped(3, 4, 3)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert type(copy.deepcopy(ours)) is SmallMapConv2d
