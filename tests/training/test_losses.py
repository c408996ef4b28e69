"""Mixup against its formula, the law of its draws and timm's own; losses against float64 NumPy."""

import random

import numpy as np
import pytest
import torch
from timm.data import Mixup

from hw1.config.recipe import LossConfig, MixupConfig
from hw1.training.losses import balanced_weights, build_train_loss, dominant_label
from hw1.training.mixup import SeededMixup, build_mixup

CLASSES = 7


def make(alpha: float = 0.2, prob: float = 1.0, smoothing: float = 0.0, seed: int = 118, classes: int = CLASSES) -> SeededMixup:
    mixup = build_mixup(MixupConfig(alpha=alpha, prob=prob), LossConfig(label_smoothing=smoothing), classes, seed)
    assert mixup is not None
    return mixup


def batch(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 5, 6, generator=rng), torch.randint(0, CLASSES, (size,), generator=rng)


def np_log_softmax(logits: torch.Tensor) -> np.ndarray:
    x = logits.detach().double().numpy()
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("size", [1, 2, 21, 32])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixup_is_its_formula(size, smoothing):
    mixup = make(smoothing=smoothing)
    images, labels = batch(size)
    for step in range(5):
        lam = mixup.draw(3, step)
        mixed, targets = mixup(images, labels, epoch=3, step=step)
        x = images.double().numpy()
        one_hot = np.eye(CLASSES)[labels.numpy()] * (1 - smoothing) + smoothing / CLASSES
        np.testing.assert_allclose(mixed.numpy(), lam * x + (1 - lam) * x[::-1], atol=2e-6)
        np.testing.assert_allclose(targets.numpy(), lam * one_hot + (1 - lam) * one_hot[::-1], atol=1e-6)
        assert (targets.dtype, tuple(targets.shape)) == (torch.float32, (size, CLASSES))
        assert (mixed.dtype, mixed.shape) == (images.dtype, images.shape)


def test_mixup_is_timms_with_the_same_lambda(monkeypatch):
    mixup = make(alpha=1.0, smoothing=0.1)
    theirs = Mixup(mixup_alpha=1.0, label_smoothing=0.1, num_classes=CLASSES)
    images, labels = batch(8)
    for step in range(10):
        monkeypatch.setattr(theirs, "_params_per_batch", lambda step=step: (mixup.draw(0, step), False))
        expected_images, expected_targets = theirs(images.clone(), labels)
        mixed, targets = mixup(images, labels, epoch=0, step=step)
        torch.testing.assert_close(mixed, expected_images, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(targets, expected_targets)


def test_arguments_are_left_alone():
    images, labels = batch(6)
    kept, kept_labels = images.clone(), labels.clone()
    mixed, _ = make(alpha=5.0)(images, labels, epoch=0, step=0)
    assert torch.equal(images, kept)
    assert torch.equal(labels, kept_labels)
    assert not torch.equal(mixed, images)


def test_an_unmixed_batch_keeps_its_bits_with_plain_one_hot_targets():
    mixup = make(prob=0.5)
    step = next(step for step in range(100) if mixup.draw(0, step) == 1.0)
    images, labels = batch(5)
    mixed, targets = mixup(images, labels, epoch=0, step=step)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, CLASSES).float())


def test_lambda_may_be_a_scalar_on_the_device():
    mixup = make(prob=1.0)
    images, labels = batch(7)
    lam = mixup.draw(2, 3)
    for ours, theirs in zip(mixup.mix(images, labels, torch.tensor(lam)), mixup(images, labels, epoch=2, step=3), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_channels_last_stays_channels_last():
    images, labels = batch(4)
    mixed, _ = make()(images.to(memory_format=torch.channels_last), labels, epoch=0, step=0)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_draws_are_a_function_of_seed_epoch_and_step_alone():
    def table(mixup: SeededMixup) -> list[float]:
        return [mixup.draw(epoch, step) for epoch in range(3) for step in range(20)]

    first = table(make(alpha=1.0))
    np.random.seed(5)
    torch.manual_seed(5)
    random.seed(5)
    assert table(make(alpha=1.0)) == first
    assert make(alpha=1.0).draw(2, 7) == first[2 * 20 + 7], "any step can be drawn without those before it"
    assert len({*first, *table(make(alpha=1.0, seed=119))}) == 2 * len(first)


def test_global_generators_are_not_touched():
    images, labels = batch(4)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    make()(images, labels, epoch=0, step=0)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate()) == before


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_follows_beta(alpha):
    mixup = make(alpha=alpha)
    draws = np.array([mixup.draw(step // 500, step % 500) for step in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(draws.var() - 1 / (4 * (2 * alpha + 1))) < 0.01
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.06
    cdf = pytest.importorskip("scipy.special").betainc(alpha, alpha, np.sort(draws))
    rank = np.arange(4001) / 4000
    distance = max((rank[1:] - cdf).max(), (cdf - rank[:-1]).max())
    assert distance < 1.95 / np.sqrt(4000), "Kolmogorov-Smirnov at the level 0.001"


@pytest.mark.parametrize(("prob", "low", "high"), [(0.5, 0.47, 0.53), (0.1, 0.08, 0.12), (1.0, 1.0, 1.0)])
def test_share_of_mixed_batches(prob, low, high):
    mixup = make(alpha=1.0, prob=prob)
    assert low <= np.mean([mixup.draw(0, step) < 1.0 for step in range(4000)]) <= high


def test_random_mixup_draws_the_lambdas_of_mixup_on_every_batch():
    always, sometimes = make(prob=1.0), make(prob=0.5)
    pairs = [(always.draw(1, step), sometimes.draw(1, step)) for step in range(200)]
    assert all(some in (every, 1.0) for every, some in pairs)
    assert 50 < sum(some == every for every, some in pairs) < 150


def test_draws_are_not_those_of_the_augmentation():
    for words in [(118, 2, 9), (118, 2, 9, 1), (118, 2, 9, 2)]:
        rng = np.random.default_rng(words)
        rng.random()
        assert make(alpha=1.0).draw(2, 9) != rng.beta(1.0, 1.0)


def test_mixup_and_loss_read_nothing_back_from_the_device():
    """Meta tensors have no data: whatever would wait for a device to deliver a number raises here."""
    images, labels = torch.empty(21, 3, 8, 8, device="meta"), torch.empty(21, dtype=torch.int64, device="meta")
    mixed, targets = make()(images, labels, epoch=0, step=0)
    assert mixed.shape == images.shape
    assert dominant_label(targets).shape == (21,)
    logits = torch.empty(21, CLASSES, device="meta")
    assert build_train_loss(True, LossConfig())(logits, targets).shape == ()
    for smoothing in (0.0, 0.1):
        assert build_train_loss(False, LossConfig(label_smoothing=smoothing))(logits, labels).shape == ()


def test_never_mixing_needs_no_mixup():
    assert build_mixup(MixupConfig(alpha=0.0, prob=1.0), LossConfig(), 10, 1) is None
    assert build_mixup(MixupConfig(alpha=0.2, prob=0.0), LossConfig(), 10, 1) is None
    assert build_mixup(MixupConfig(alpha=0.2, prob=0.5), LossConfig(), 10, 1) is not None


def test_class_prob_zero_leaves_every_batch():
    mixup = SeededMixup(MixupConfig(alpha=0.2, prob=0.0), label_smoothing=0.0, num_classes=3, seed=1)
    assert {mixup.draw(0, step) for step in range(200)} == {1.0}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_their_formulas(smoothing):
    logits, labels = torch.randn(21, CLASSES) * 5, batch(21)[1]
    log_p = np_log_softmax(logits)
    smooth = np.eye(CLASSES)[labels.numpy()] * (1 - smoothing) + smoothing / CLASSES
    config = LossConfig(label_smoothing=smoothing)
    hard = build_train_loss(False, config)(logits, labels)
    assert float(hard) == pytest.approx(-(smooth * log_p).sum(1).mean(), rel=1e-6)
    soft = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 21).astype(np.float32)
    got = build_train_loss(True, config)(logits, torch.from_numpy(soft))
    assert float(got) == pytest.approx(-(soft * log_p).sum(1).mean(), rel=1e-6), "soft targets are smoothed by Mixup, not once more"


@pytest.mark.parametrize("name", ["bce", "poly", "asl"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixup_on", [True, False])
def test_timms_losses_are_their_formulas(name, smoothing, mixup_on):
    if name == "asl" and mixup_on:
        pytest.skip("a contradiction of the recipe")
    logits, labels = torch.randn(21, CLASSES) * 3, batch(21)[1]
    hot = np.eye(CLASSES)[labels.numpy()]
    smooth = hot * (1 - smoothing) + smoothing / CLASSES
    if mixup_on:
        smooth = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 21)
    log_p = np_log_softmax(logits)
    p, z = np.exp(log_p), logits.double().numpy()
    if name == "bce":
        expected = -(smooth * -np.log1p(np.exp(-z)) + (1 - smooth) * -np.log1p(np.exp(z))).mean()
    elif name == "poly":
        expected = (-(smooth * log_p).sum(1) + 2 * (1 - (smooth * p).sum(1))).mean()
    else:
        weight = np.where(hot == 1, 1 - p, p**4)
        expected = -(smooth * weight * log_p).sum(1).mean()
    target = torch.from_numpy(smooth.astype(np.float32)) if mixup_on else labels
    with torch.autocast("cpu", torch.bfloat16):
        loss = build_train_loss(mixup_on, LossConfig(name=name, label_smoothing=smoothing))(logits, target)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mixup_on", "smoothing"), [(True, 0.0), (False, 0.0), (False, 0.1)])
def test_losses_stay_float32_under_autocast(mixup_on, smoothing):
    logits = (torch.randn(32, CLASSES) * 10).bfloat16().requires_grad_()
    labels = batch(32)[1]
    target = torch.nn.functional.one_hot(labels, CLASSES).float() if mixup_on else labels
    with torch.autocast("cpu", torch.bfloat16):
        loss = build_train_loss(mixup_on, LossConfig(label_smoothing=smoothing))(logits, target)
    loss.backward()
    smooth = np.eye(CLASSES)[labels.numpy()] * (1 - smoothing) + smoothing / CLASSES
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-(smooth * np_log_softmax(logits)).sum(1).mean(), rel=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_dominant_label():
    targets = torch.tensor([[0.3, 0.7, 0.0], [0.8, 0.0, 0.2]])
    assert dominant_label(targets).tolist() == [1, 0]
    assert dominant_label(torch.tensor([2, 0, 1])).tolist() == [2, 0, 1]
    mixup = make(alpha=1.0)
    step = next(step for step in range(100) if mixup.draw(0, step) < 0.4)
    images, labels = batch(4)[0], torch.tensor([0, 1, 2, 3])
    assert dominant_label(mixup(images, labels, epoch=0, step=step)[1]).tolist() == [3, 2, 1, 0], "the partner weighs more"


def test_balanced_weights_are_one_on_average_over_images():
    labels = np.repeat([0, 2, 3, 6], [50, 5, 30, 1])
    weights = balanced_weights(labels, CLASSES)
    assert weights.tolist() == pytest.approx([86 / (4 * 50), 0, 86 / (4 * 5), 86 / (4 * 30), 0, 0, 86 / 4])
    assert weights[labels].mean() == pytest.approx(1)
    totals = np.bincount(labels, weights=weights[labels], minlength=CLASSES)
    np.testing.assert_allclose(totals[[0, 2, 3, 6]], 86 / 4, rtol=1e-6)  # every class counts the same in an epoch
    np.testing.assert_array_equal(balanced_weights(np.arange(CLASSES).repeat(3), CLASSES), np.ones(CLASSES))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_losses_are_their_formulas(smoothing):
    logits, labels = torch.randn(21, CLASSES) * 5, batch(21)[1]
    weights = np.array([0.2, 1.0, 3.0, 0.5, 0.0, 2.0, 7.0], np.float32)
    log_p = np_log_softmax(logits)
    smooth = np.eye(CLASSES)[labels.numpy()] * (1 - smoothing) + smoothing / CLASSES
    config = LossConfig(label_smoothing=smoothing, class_weights="balanced")
    assert float(build_train_loss(False, config, weights)(logits, labels)) == pytest.approx(
        -(weights * smooth * log_p).sum(1).mean(), rel=1e-6
    )
    _, targets = make(alpha=1.0, smoothing=smoothing)(batch(21)[0], labels, epoch=0, step=0)
    mixed = float(build_train_loss(True, config, weights)(logits, targets))
    assert mixed == pytest.approx(-(weights * targets.numpy() * log_p).sum(1).mean(), rel=1e-5)
    alike = build_train_loss(False, config, np.ones(CLASSES, np.float32))(logits, labels)
    assert float(alike) == pytest.approx(float(build_train_loss(False, LossConfig(label_smoothing=smoothing))(logits, labels)), rel=1e-6)
