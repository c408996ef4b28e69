"""Layers with weights in oneDNN's order against torch's own."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from helpers.paths import ROOT
from torch import nn

from hw1.models import packed_layers
from hw1.models.packed_layers import ACTIVATIONS, PackedConv2d, PackedLinear, packed_dtypes, use_packed_layers

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
    use_packed_layers(packed)
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
    assert set(packed._packed) == set(packed_dtypes())


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
    use_packed_layers(model)
    assert [type(module) for module in model] == [nn.Conv2d] * 3
    monkeypatch.setattr(packed_layers, "OPERATORS", ("_no_such_operator",))
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    use_packed_layers(model)
    assert type(model[0]) is nn.Conv2d


@torch.no_grad()
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_activation_and_residual_are_torchs(convolutions, activation, overwrite):
    plain, packed = convolutions
    x = torch.randn(2, plain.in_channels, 7, 8).to(memory_format=torch.channels_last)
    function = ACTIVATIONS[activation].function
    torch.testing.assert_close(packed(x, activation=activation), function(plain(x)), rtol=1e-5, atol=1e-6)
    output = plain(x)
    for residual in (torch.randn_like(output), torch.randn(2, len(output[0]), 1, 1), torch.randn_like(output).double()):
        expected = function(output + residual)
        found = packed(x, residual.clone(memory_format=torch.preserve_format), activation, overwrite=overwrite)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        residual = torch.randn_like(output).bfloat16()
        expected = function(output + residual.float())
        found = packed(x, residual.clone(memory_format=torch.preserve_format), activation, overwrite=overwrite)
        torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)


def test_a_linear_layer_is_packed_for_bf16_and_torchs_otherwise():
    torch.manual_seed(0)
    plain = nn.Linear(6, 5)
    packed = copy.deepcopy(nn.Sequential(plain))
    use_packed_layers(packed)
    assert isinstance(packed[0], PackedLinear)
    x = torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(packed[0](x, "relu"), plain(x).relu())
        assert packed[0]._packed == {}
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(packed[0](x, "relu").float(), plain(x).relu().float(), rtol=0.02, atol=0.02)
    assert set(packed[0]._packed) == {torch.bfloat16} & set(packed_dtypes())
    with torch.autocast("cpu", torch.bfloat16):
        assert packed[0](x).requires_grad


WITHOUT_BF16 = """
import torch
from torch import nn
from hw1.models.packed_layers import packed_dtypes, use_packed_layers
model = nn.Sequential(nn.Conv2d(8, 8, 3)).to(memory_format=torch.channels_last).eval()
use_packed_layers(model)
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    print(model(torch.ones(1, 8, 6, 6)).dtype, packed_dtypes())
"""


@pytest.mark.slow
def test_a_processor_without_bf16_computes_in_it_by_torchs_layers() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_BF16], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "torch.bfloat16 (torch.float32,)"
