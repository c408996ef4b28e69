"""Dropout with draws of its own: torch's distribution, a mask for each seed, its gradient, any memory order."""

import copy

import pytest
import torch
from torch import nn

from hw1.models.dropout import FastDropout, use_fast_dropout


def fast(probability: float) -> nn.Module:
    model = nn.Sequential(nn.Dropout(probability))
    use_fast_dropout(model)
    assert type(model[0]) is FastDropout
    return model[0]


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.97])
def test_draws_are_independent_and_as_frequent_as_asked(probability):
    torch.manual_seed(3)
    kept = (fast(probability)(torch.ones(1_000_003)) != 0).double()[:1_000_000]
    deviation = (probability * (1 - probability)) ** 0.5
    for lane in kept.view(-1, 4).t():  # four elements come from one number
        assert float(lane.mean()) == pytest.approx(1 - probability, abs=4 * deviation / len(lane) ** 0.5)
    centred = kept - (1 - probability)
    for distance in (1, 2, 3, 4, 5, 8):
        correlation = float((centred[distance:] * centred[:-distance]).mean()) / deviation**2
        assert abs(correlation) < 4 / len(kept) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_others_are_scaled_and_the_gradient_has_the_same_mask(dtype):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5, 3, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    y = fast(0.25)(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    kept = y != 0
    assert 0 < int(kept.sum()) < y.numel()
    torch.testing.assert_close(y[kept], (x * (1 / 0.75))[kept], rtol=0.01 if dtype == torch.bfloat16 else 1e-6, atol=0)
    y.backward(torch.ones_like(y))
    assert torch.equal(x.grad != 0, kept)
    torch.testing.assert_close(x.grad[kept], torch.full_like(x.grad[kept], 1 / 0.75))


def test_a_seed_makes_the_same_mask_again_and_another_one_another():
    layer, x = fast(0.5), torch.ones(3, 1000)
    masks = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        masks.append((layer(x), layer(x)))
    assert torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[0][1], masks[1][1])
    assert not torch.equal(masks[0][0], masks[0][1])
    assert not torch.equal(masks[0][0], masks[2][0])


@pytest.mark.parametrize("x", [torch.ones(0, 3), torch.ones(()), torch.ones(5), torch.ones(2, 1).expand(2, 9), torch.ones(8, 6)[::2, ::3]])
def test_any_shape_and_order(x):
    torch.manual_seed(0)
    y = fast(0.5)(x)
    assert y.shape == x.shape
    assert set(y.flatten().tolist()) <= {0.0, 2.0}


def test_what_is_not_random_is_torchs():
    x = torch.randn(50)
    assert torch.equal(fast(0.5).eval()(x), x)
    assert torch.equal(fast(0.0)(x), x)
    assert torch.equal(fast(1.0)(x), torch.zeros_like(x))
    in_place = x.clone()
    layer = nn.Sequential(nn.Dropout(0.5, inplace=True))
    use_fast_dropout(layer)
    assert layer(in_place) is in_place


def test_only_dropout_of_elements_changes():
    model = nn.Sequential(nn.Dropout(0.2), nn.Dropout2d(0.2), nn.AlphaDropout(0.2), nn.Linear(3, 3))
    expected = [type(module) for module in model]
    use_fast_dropout(model)
    assert [type(module) for module in copy.deepcopy(model)] == [FastDropout, *expected[1:]]
    assert model[0].p == 0.2
