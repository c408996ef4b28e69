"""Convolutions as matrix products, compared with gradients in float64 from the definition, and with outputs of torch's convolution."""

import copy
from functools import lru_cache

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional as F

from hw1.models import conv_matmul
from hw1.models.conv_matmul import Geometry, MatmulConv2d, Way, Ways, choose_ways, use_conv_matmul


def swapped(*args: object, **kwargs: object) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return torch's convolution in NHWC memory order, and the same one after `use_conv_matmul`."""
    torch.manual_seed(0)
    plain = nn.Conv2d(*args, **kwargs).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
    ours = nn.Sequential(copy.deepcopy(plain))
    use_conv_matmul(ours)
    return plain, ours[0]


@pytest.fixture(params=["taps", "patches"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Let a convolution of any size be computed in one of the ways."""
    found: Way = request.param
    monkeypatch.setattr(conv_matmul, "choose_ways", lru_cache(lambda *_: Ways(found, found, found)))  # a cache, as the real one is
    return found


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        *[(2, 3, 1, 1), (3, 3, 1, 1), (6, 3, 2, 1), (7, 3, 1, 1), (5, 5, 2, 0), (1, 3, 2, 1), (4, 7, 3, 3)],
        *[(1, 1, 1, 0), (5, 1, 1, 0), (6, 1, 2, 0), (8, 1, 1, 0), (17, 1, 2, 0)],
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_the_definition(size: int, kernel: int, stride: int, padding: int, bias: bool) -> None:
    plain, ours = swapped(6, 8, kernel, stride=stride, padding=padding, bias=bias)
    assert isinstance(ours, MatmulConv2d)
    x = torch.randn(5, 6, size, size).to(memory_format=torch.channels_last).requires_grad_()
    output = ours(x)
    assert "Convolution" not in type(output.grad_fn).__name__  # not torch's
    factor = torch.randn_like(output)
    (output * factor).sum().backward()
    # unfold writes the convolution out as one matrix product; in float64 its gradient is exact to float32's precision
    exact = x.detach().double().contiguous().requires_grad_()
    weight = plain.weight.detach().double().contiguous().requires_grad_()
    columns = F.unfold(exact, kernel, padding=padding, stride=stride)
    product = (weight.flatten(1) @ columns).view(output.shape)
    torch.testing.assert_close(ours(x) - ours.bias.view(-1, 1, 1) if bias else ours(x), product.float(), rtol=1e-4, atol=1e-5)
    (product * factor.double()).sum().backward()
    torch.testing.assert_close(ours.weight.grad, weight.grad.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-4, atol=1e-5)
    assert ours.weight.grad.stride() == ours.weight.stride()  # torch's fused optimizers take that for granted
    assert output.is_contiguous(memory_format=torch.channels_last)
    if bias:
        torch.testing.assert_close(ours.bias.grad, factor.sum((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "kernel"), [(2, 3), (6, 3), (1, 1), (3, 1), (9, 1)])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_gradient_has_the_strides_of_the_weight(size: int, kernel: int, order: torch.memory_format) -> None:
    _, ours = swapped(6, 8, kernel, padding=kernel // 2)
    ours = ours.to(memory_format=torch.contiguous_format).to(memory_format=order)
    ours.weight.data = torch.empty_like(ours.weight, memory_format=order).copy_(ours.weight.data)  # of 1 x 1, `to` leaves the strides
    ours(torch.randn(4, 6, size, size).to(memory_format=torch.channels_last)).sum().backward()
    assert ours.weight.grad.stride() == ours.weight.stride()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "kernel"), [(2, 3), (6, 3), (3, 1), (9, 1)])
@pytest.mark.parametrize("frozen", ["weight", "input"])
def test_what_is_frozen_gets_no_gradient_and_the_other_its_own(size: int, kernel: int, frozen: str) -> None:
    plain, ours = swapped(6, 8, kernel, padding=kernel // 2)
    gradients = []
    for conv in (plain, ours):
        conv.weight.requires_grad_(frozen != "weight")
        x = torch.linspace(-1, 1, 5 * 6 * size**2).view(5, 6, size, size).to(memory_format=torch.channels_last)
        x.requires_grad_(frozen != "input")
        conv(x).square().sum().backward()
        gradients.append((x.grad, conv.weight.grad))
    for ours_grad, plain_grad in zip(*gradients, strict=True):
        assert (ours_grad is None) == (plain_grad is None)
        if plain_grad is not None:
            torch.testing.assert_close(ours_grad, plain_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "batch", "size", "weight", "stride", "ways"),
    [
        (torch.float32, 8, 3, (64, 64, 3), 1, "conv conv patches"),
        (torch.float32, 16, 3, (128, 128, 3), 1, "conv conv taps"),
        (torch.float32, 4, 7, (256, 256, 3), 1, "conv conv taps"),
        (torch.float32, 8, 3, (512, 512, 3), 1, "taps taps taps"),
        (torch.float32, 2, 3, (512, 512, 3), 1, "patches conv taps"),
        (torch.float32, 8, 6, (512, 256, 3), 2, "patches taps patches"),
        (torch.float32, 8, 6, (256, 128, 3), 2, "conv conv patches"),
        (torch.float32, 32, 6, (512, 256, 3), 2, "conv taps taps"),
        (torch.float32, 64, 4, (512, 512, 3), 1, "conv conv taps"),
        (torch.float32, 64, 8, (512, 512, 3), 1, "conv conv conv"),
        (torch.float32, 1, 1, (16, 256, 1), 1, "patches patches patches"),
        (torch.float32, 32, 14, (256, 1024, 1), 1, "conv conv patches"),
        (torch.bfloat16, 8, 3, (512, 512, 3), 1, "patches conv patches"),
        (torch.bfloat16, 16, 3, (512, 512, 3), 1, "conv conv taps"),
        (torch.bfloat16, 32, 3, (512, 512, 3), 1, "taps taps taps"),
        (torch.bfloat16, 128, 2, (512, 512, 3), 1, "taps taps taps"),
        (torch.bfloat16, 8, 12, (256, 128, 3), 2, "conv conv patches"),
        (torch.bfloat16, 32, 24, (128, 64, 3), 2, "conv conv patches"),
        (torch.bfloat16, 128, 24, (128, 64, 3), 2, "conv conv conv"),
        (torch.bfloat16, 32, 14, (512, 256, 3), 2, "conv conv patches"),
        (torch.bfloat16, 32, 28, (512, 256, 3), 2, "conv conv conv"),
        (torch.bfloat16, 32, 6, (256, 256, 3), 1, "conv conv conv"),
        (torch.bfloat16, 8, 6, (256, 256, 3), 1, "conv conv patches"),
        (torch.bfloat16, 32, 3, (256, 256, 3), 1, "conv conv patches"),
        (torch.bfloat16, 32, 7, (512, 512, 3), 1, "conv conv taps"),
        (torch.bfloat16, 8, 12, (128, 128, 3), 1, "conv conv conv"),
        (torch.bfloat16, 32, 7, (2048, 512, 1), 1, "patches patches patches"),
        (torch.bfloat16, 32, 32, (96, 16, 1), 1, "conv conv conv"),
        (torch.float16, 8, 3, (512, 512, 3), 1, "conv conv conv"),
        (torch.float64, 8, 3, (512, 512, 3), 1, "conv conv conv"),
    ],
)
def test_choose_ways(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, batch: int, size: int, weight: tuple[int, int, int], stride: int, ways: str
) -> None:
    """Each case rests on figures of benchmarks/NOTES.md, "Training step", and of `benchmarks.convolutions`."""
    monkeypatch.setattr(conv_matmul, "HAS_AVX512", False)
    assert ways_of(dtype, batch, size, weight, stride) == ways.split()


def ways_of(dtype: torch.dtype, batch: int, size: int, weight: tuple[int, int, int], stride: int) -> list[Way]:
    d, c, kernel = weight
    geometry = Geometry(batch, (size, size), (d, c, kernel, kernel), (stride, stride), (kernel // 2, kernel // 2))
    return list(choose_ways.__wrapped__(geometry, dtype))


@pytest.mark.parametrize(
    ("batch", "size", "weight", "stride", "narrow", "wide"),
    [
        (32, 6, (256, 256, 3), 1, "taps", "conv"),
        (32, 7, (512, 512, 3), 1, "taps", "conv"),
        (32, 12, (256, 128, 3), 2, "taps", "conv"),
        (32, 12, (512, 256, 3), 2, "taps", "taps"),
        (8, 6, (256, 256, 3), 1, "taps", "taps"),
        (128, 3, (512, 512, 3), 1, "taps", "taps"),
    ],
)
def test_in_float32_avx512_decides_how_the_weights_gradient_of_many_positions_is_computed(
    monkeypatch: pytest.MonkeyPatch, batch: int, size: int, weight: tuple[int, int, int], stride: int, narrow: str, wide: str
) -> None:
    for has_avx512, expected in ((False, narrow), (True, wide)):
        monkeypatch.setattr(conv_matmul, "HAS_AVX512", has_avx512)
        assert ways_of(torch.float32, batch, size, weight, stride)[2] == expected


@pytest.mark.parametrize(("size", "stride", "kernel"), [(3, 1, 3), (2, 1, 3), (6, 2, 3), (5, 2, 5), (7, 1, 1)])
def test_overlap_is_the_share_of_inputs_that_are_not_padding(size: int, stride: int, kernel: int) -> None:
    geometry = Geometry(4, (size, size), (8, 8, kernel, kernel), (stride, stride), (kernel // 2, kernel // 2))
    patches = F.unfold(torch.ones(1, 1, size, size), kernel, padding=kernel // 2, stride=stride)
    assert geometry.overlap() == pytest.approx(patches.mean().item())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "kernel", "stride"), [(2, 3, 1), (6, 3, 2), (5, 1, 1), (6, 1, 2)])
def test_gradients_in_bf16_are_within_its_rounding(size: int, kernel: int, stride: int) -> None:
    """As near to those in float64 as torch's own in bf16, and in the weights' own precision."""
    plain, ours = swapped(16, 24, kernel, stride=stride, padding=kernel // 2)
    x = torch.randn(9, 16, size, size).to(memory_format=torch.channels_last)
    factor = torch.randn_like(plain(x))
    errors = []
    exact = F.conv2d(x.double(), weight := plain.weight.detach().double().requires_grad_(), None, stride, kernel // 2)
    (exact * factor.double()).sum().backward()
    for conv in (plain, ours):
        with torch.autocast("cpu", torch.bfloat16):
            output = conv(x)
        assert output.dtype == torch.bfloat16
        (output * factor).sum().backward()
        assert conv.weight.grad.dtype == torch.float32
        assert conv.weight.grad.stride() == conv.weight.stride()
        assert conv.bias.grad.dtype == torch.float32
        errors.append(float((conv.weight.grad - weight.grad).norm() / weight.grad.norm()))
    assert "Convolution" not in type(output.grad_fn).__name__
    assert errors[1] < max(1.2 * errors[0], 0.004)


@pytest.mark.parametrize("stride", [1, 2])
def test_taps_in_bf16_are_summed_in_float32(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """Output and the input's gradient: nine sums in bf16 would double the error of torch's own, which rounds once."""
    monkeypatch.setattr(conv_matmul, "choose_ways", lru_cache(lambda *_: Ways("taps", "taps", "taps")))
    plain, ours = swapped(128, 128, 3, stride=stride, padding=1, bias=False)
    x = torch.randn(9, 128, 3, 3).to(memory_format=torch.channels_last)
    exact = x.double().requires_grad_()
    weight = plain.weight.detach().to(torch.bfloat16).double()
    output = F.conv2d(x.to(torch.bfloat16).double(), weight, None, stride, 1)
    factor = torch.randn_like(output).to(torch.bfloat16).double()
    (F.conv2d(exact, weight, None, stride, 1) * factor).sum().backward()
    rounded = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours_output = ours(rounded)
    (ours_output * factor.to(torch.bfloat16)).sum().backward()
    for found, expected in ((ours_output.detach(), output), (rounded.grad, exact.grad)):
        assert float((found.double() - expected).norm() / expected.norm()) < 0.003


def test_products_only_where_the_rules_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_matmul, "choose_ways", lambda geometry, _: Ways(*["taps"] * 3) if geometry.output <= (7, 7) else Ways())
    used = []
    real = conv_matmul._ConvMatmul.apply
    monkeypatch.setattr(conv_matmul._ConvMatmul, "apply", lambda *args: used.append((args[0].shape, args[3])) or real(*args))
    _, ours = swapped(4, 4, 3, padding=1)
    ours(torch.randn(1, 4, 8, 8))
    assert used == []
    ours(torch.randn(1, 4, 7, 7))
    assert used.pop() == ((1, 4, 7, 7), Ways("taps", "taps", "taps"))
    ours.requires_grad_(False)
    ours(torch.randn(1, 4, 7, 7, requires_grad=True))
    assert used.pop() == ((1, 4, 7, 7), Ways("taps", "taps", "conv"))
    with torch.inference_mode():
        ours(torch.randn(8, 4, 3, 3))
    assert used.pop() == ((8, 4, 3, 3), Ways("taps", "conv", "conv"))
    monkeypatch.setattr(conv_matmul, "choose_ways", lambda *_: Ways("patches", "conv", "patches"))
    with torch.no_grad():
        ours(torch.randn(8, 4, 3, 3))
    ours.requires_grad_(True)
    _, pointwise = swapped(4, 4, 1)
    pointwise(torch.randn(1, 4, 8, 8))  # NCHW: each product would need a copy
    assert used == []
    ours(torch.randn(8, 4, 3, 3))
    assert used.pop() == ((8, 4, 3, 3), Ways("patches", "conv", "patches"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "kernel", "stride"), [(2, 3, 1), (3, 3, 1), (5, 3, 2), (6, 3, 2), (7, 1, 1), (9, 1, 2)])
def test_without_autograd_the_output_is_torchs(size: int, kernel: int, stride: int) -> None:
    plain, ours = swapped(6, 8, kernel, stride=stride, padding=kernel // 2)
    x = torch.randn(16, 6, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"groups": 2}, {"dilation": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}, {"kernel_size": 1, "padding": 1}],
)
def test_other_convolutions_stay_torchs(options: dict[str, object]) -> None:
    _, ours = swapped(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options})
    assert type(ours) is nn.Conv2d


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("stride", [1, 2])
def test_compiled_code_is_told_nothing_of_where_a_tensor_lies_in_memory(stride: int) -> None:
    """`as_strided` counts on a tensor's strides, which torch.compile may change: a gradient came out wrong without a word."""
    _, ours = swapped(16, 16, 3, padding=1, stride=stride)
    targets: set[str] = set()

    def record(graph: torch.fx.GraphModule, _: object) -> object:
        targets.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    compiled = torch.compile(lambda x: ours(x.relu()), backend=aot_autograd(fw_compiler=record, bw_compiler=record))
    x = torch.randn(4, 16, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    compiled(x).sum().backward()
    assert any("mm" in target for target in targets), targets  # the products are in it
    assert not any("as_strided" in target for target in targets), targets


def test_state_dict_and_copies_are_as_before() -> None:
    plain, ours = swapped(3, 4, 3)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert type(copy.deepcopy(ours)) is MatmulConv2d
