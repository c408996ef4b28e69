"""CBAM against its formula written out in NumPy (Woo et al. 2018, section 3), and its two ways to start."""

import numpy as np
import pytest
import torch

from hw1.models import Cbam, ChannelAttention, SpatialAttention


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def channel_gate(x, w1, w2):
    """sigmoid(MLP(avgpool(x)) + MLP(maxpool(x))), [B, C, H, W] -> [B, C]."""
    average = x.mean(axis=(2, 3))
    largest = x.max(axis=(2, 3))
    return sigmoid(np.maximum(average @ w1.T, 0) @ w2.T + np.maximum(largest @ w1.T, 0) @ w2.T)


def spatial_gate(x, kernel):
    """sigmoid of the convolution of [mean; max] over channels, one output pixel at a time, [B, C, H, W] -> [B, H, W]."""
    planes = np.stack([x.mean(axis=1), x.max(axis=1)], axis=1)
    size = kernel.shape[-1]
    padded = np.pad(planes, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    out = np.empty((x.shape[0], *x.shape[2:]))
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            out[:, row, column] = (padded[:, :, row : row + size, column : column + size] * kernel).sum(axis=(1, 2, 3))
    return sigmoid(out)


def cbam_in_numpy(x, cbam):
    w1, w2, kernel = (w.detach().double().numpy() for w in (cbam.channel.fc1.weight, cbam.channel.fc2.weight, cbam.spatial.conv.weight))
    x = x * channel_gate(x, w1, w2)[:, :, None, None]
    return x * spatial_gate(x, kernel[0])[:, None]


def with_large_weights(cbam):
    """Weights that drive the gates all over (0, 1), so that a wrong branch shows."""
    for parameter in cbam.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return cbam


@pytest.mark.parametrize(
    ("channels", "height", "width", "reduction", "kernel"),
    [(32, 7, 7, 16, 7), (24, 5, 9, 4, 3), (20, 2, 3, 16, 7), (8, 1, 1, 16, 1)],
)
def test_equals_the_papers_formula(channels, height, width, reduction, kernel):
    torch.manual_seed(0)
    cbam = with_large_weights(Cbam(channels, reduction, kernel))
    x = torch.randn(3, channels, height, width) * 2 + 0.3
    np.testing.assert_allclose(cbam(x).detach().numpy(), cbam_in_numpy(x.double().numpy(), cbam), rtol=1e-4, atol=1e-5)


def test_gates_have_their_shapes():
    x = torch.randn(2, 12, 5, 6)
    assert ChannelAttention(12, 4)(x).shape == (2, 12, 1, 1)
    assert SpatialAttention(7)(x).shape == (2, 1, 5, 6)


def test_has_no_bias_and_no_normalisation():
    shapes = {name: tuple(value.shape) for name, value in Cbam(64, 16, 7).state_dict().items()}
    assert shapes == {"channel.fc1.weight": (4, 64), "channel.fc2.weight": (64, 4), "spatial.conv.weight": (1, 2, 7, 7)}


def test_hidden_layer_is_never_empty():
    assert Cbam(8, reduction=16).channel.fc1.out_features == 1
    assert Cbam(2048, reduction=16).channel.fc1.out_features == 128


def test_paper_start_passes_about_a_quarter():
    """sigmoid(0)^2: one start differs from another, on the average of many it holds."""
    torch.manual_seed(0)
    x = torch.relu(torch.randn(4, 512, 7, 7))
    passed = [(Cbam(512)(x).sum() / x.sum()).item() for _ in range(40)]
    assert 0.22 < np.mean(passed) < 0.28
    assert all(0.05 < one < 0.6 for one in passed)


def test_identity_start_passes_everything_and_learns():
    torch.manual_seed(0)
    cbam = Cbam(32, 4, init="identity")
    x = torch.relu(torch.randn(4, 32, 6, 6))
    assert torch.equal(cbam(x), x)
    target = x * torch.cat([torch.full((16,), 0.6), torch.full((16,), 1.4)])[:, None, None]
    optimizer = torch.optim.Adam(cbam.parameters(), lr=0.02)
    reached: list[set[str]] = []
    for _ in range(40):
        optimizer.zero_grad()
        (cbam(x) - target).square().mean().backward()
        reached.append({name for name, p in cbam.named_parameters() if p.grad.abs().max() > 0})
        optimizer.step()
    last_layers = {"channel.fc2.weight", "spatial.conv.weight"}
    assert reached[:2] == [last_layers, last_layers | {"channel.fc1.weight"}]
    with torch.no_grad():
        gain = cbam(x).sum((0, 2, 3)) / x.sum((0, 2, 3))
    assert gain[:16].max() < 0.8 < 1.2 < gain[16:].min()  # it weakens and strengthens


def test_identity_is_the_papers_formula_with_doubled_gates():
    torch.manual_seed(0)
    identity, paper = with_large_weights(Cbam(16, 4, init="identity")), Cbam(16, 4)
    paper.load_state_dict({name: value for name, value in identity.state_dict().items() if name != "gate_scale"})
    x = torch.randn(2, 16, 5, 5)
    refined = x * 2 * paper.channel(x)
    torch.testing.assert_close(identity(x), refined * 2 * paper.spatial(refined))


@pytest.mark.parametrize(("saved", "other"), [("paper", "identity"), ("identity", "paper")])
def test_weights_of_one_kind_do_not_load_into_the_other(saved, other):
    with pytest.raises(RuntimeError, match="gate_scale"):
        Cbam(8, init=other).load_state_dict(Cbam(8, init=saved).state_dict())


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_mixed_precision_and_memory_format_are_kept(init):
    cbam = Cbam(32, 4, init=init)
    x = torch.randn(2, 32, 6, 6).contiguous(memory_format=torch.channels_last)
    assert cbam(x).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = cbam(x.bfloat16())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), cbam(x), rtol=0.05, atol=0.05)
    assert Cbam(32, init=init, dtype=torch.float64)(x.double()).dtype == torch.float64


@pytest.mark.parametrize("arguments", [{"kernel_size": 4}, {"kernel_size": 0}, {"reduction": 0}, {"init": "zero"}])
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Cbam(8, **arguments)
