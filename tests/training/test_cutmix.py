"""CutMix, and the modes of Mixup and CutMix, against timm's own class; their shares among several processes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm.data.mixup as timm_mixup
import torch
from helpers.tiny_training import loader_of, make, make_batches, recorded

from hw1.config.recipe import LossConfig, MixupConfig
from hw1.training import mixup as mixup_module
from hw1.training.mixup import MIXUP_STREAM, SeededMixup, build_mixup
from hw1.training.train_step import train_step

CLASSES = 7
KINDS: dict[str, dict[str, Any]] = {
    "cutmix": {"alpha": 0.0, "cutmix_alpha": 1.0, "prob": 1.0},
    "both": {"alpha": 0.4, "cutmix_alpha": 1.0, "prob": 0.7, "switch_prob": 0.4},
    "mixup": {"alpha": 0.4, "prob": 0.7},
}


def build(seed: int = 118, smoothing: float = 0.1, **keys: Any) -> SeededMixup:
    mixup = build_mixup(MixupConfig(**keys), LossConfig(label_smoothing=smoothing), CLASSES, seed)
    assert mixup is not None
    return mixup


def batch(size: int, height: int = 9, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(size)
    return torch.randn(size, 3, height, width, generator=rng), torch.randint(0, CLASSES, (size,), generator=rng)


def timms(monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], mode: str, size: int, epoch: int, step: int) -> timm_mixup.Mixup:
    """timm's Mixup with the numbers that ours says it draws: whether mixed, whether cut, lambda, then the centres of the boxes."""
    theirs = timm_mixup.Mixup(
        mixup_alpha=keys["alpha"],
        cutmix_alpha=keys.get("cutmix_alpha", 0.0),
        prob=keys["prob"],
        switch_prob=keys.get("switch_prob", 0.5),
        mode=mode,
        label_smoothing=0.1,
        num_classes=CLASSES,
    )
    count = {"batch": 1, "elem": size, "pair": size // 2}[mode]
    rng = np.random.default_rng((118, epoch, step, MIXUP_STREAM))
    mixed, cut = rng.random(count) < keys["prob"], np.full(count, keys["alpha"] == 0)
    if keys["alpha"] and keys.get("cutmix_alpha"):
        cut = rng.random(count) < keys["switch_prob"]
    alpha = [keys["cutmix_alpha"] if is_cut else keys["alpha"] for is_cut in cut]
    lam = np.array([rng.beta(value, value) for value in alpha])
    centres = []  # of every box, of which timm asks only for those of mixed images
    for row in np.flatnonzero(cut):
        centre = [rng.integers(0, 9), rng.integers(0, 12)]
        centres += centre if mixed[row] else []
    lam = np.where(mixed, lam, 1.0)
    monkeypatch.setattr(theirs, "_params_per_elem", lambda size: (lam.astype(np.float32), cut))
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (float(lam[0]), bool(cut[0])))
    replay = iter(centres)
    numpy = SimpleNamespace(**{name: getattr(np, name) for name in ("sqrt", "clip", "concatenate")})
    numpy.random = SimpleNamespace(randint=lambda low, high, size: next(replay))
    monkeypatch.setattr(timm_mixup, "np", numpy)
    return theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_batches_are_timms(monkeypatch: pytest.MonkeyPatch, kind: str, mode: str) -> None:
    ours = build(**KINDS[kind], mode=mode)
    images, labels = batch(8)
    changed = 0
    for step in range(25):
        mixed, targets = ours(images, labels, epoch=1, step=step)
        with monkeypatch.context() as patch:
            theirs = timms(patch, KINDS[kind], mode, 8, 1, step)
            expected_images, expected_targets = theirs(images.clone(), labels)
        torch.testing.assert_close(mixed, expected_images, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(targets, expected_targets, atol=1e-6, rtol=1e-6)
        changed += not torch.equal(mixed, images)
    assert changed >= 12


@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_pixels_of_a_cut_image_are_its_own_or_its_partners(mode: str) -> None:
    """And the targets say how many of each; batches of odd size too."""
    ours = build(alpha=0.0, cutmix_alpha=1.0, prob=0.8, mode=mode, smoothing=0.0)
    for size in (1, 5, 8):
        images, _ = batch(size)
        labels = torch.arange(size) % CLASSES
        mixed, targets = ours(images, labels, epoch=0, step=size)
        for index in range(size):
            own, partner = (mixed[index] == images[index]).all(0), (mixed[index] == images[size - 1 - index]).all(0)
            assert (own | partner).all()
            if labels[index] != labels[size - 1 - index]:
                assert targets[index, labels[index]] == pytest.approx(own.float().mean())
        assert targets.sum(1).tolist() == pytest.approx([1.0] * size)


def test_cutmix_and_mixup_take_turns() -> None:
    mixup = build(alpha=1.0, cutmix_alpha=1.0, prob=1.0, switch_prob=0.3, mode="elem")
    rows = torch.cat([mixup.draw(0, step, (32, 3, 24, 24)) for step in range(100)]).numpy()
    cut = rows[:, 0] == 1
    assert 0.27 < cut.mean() < 0.33
    assert rows[~cut, 2:].max() == 0
    assert abs(rows[~cut, 1].mean() - 0.5) < 0.03
    assert abs(rows[~cut, 1].var() - 1 / 12) < 0.01


@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_nothing_is_mixed_after_off_epoch(mode: str) -> None:
    images, labels = batch(6)
    for kind in KINDS.values():
        ours, always = (build(**{**kind, "prob": 1.0}, mode=mode, off_epoch=off) for off in (2, None))
        for epoch in range(4):
            mixed, targets = ours(images, labels, epoch=epoch, step=3)
            expected, expected_targets = always(images, labels, epoch=epoch, step=3)
            assert torch.equal(mixed, expected if epoch < 2 else images)
            if epoch >= 2:
                expected_targets = timm_mixup.mixup_target(labels, CLASSES, 1.0, 0.1)
            torch.testing.assert_close(targets, expected_targets)


@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_the_draws_of_the_batch(monkeypatch: pytest.MonkeyPatch, mode: str, world: int) -> None:
    """Each image is mixed as in one process, but for its partner; a process with one image or none has a row all the same."""
    ours = build(**KINDS["both"], mode=mode)
    for size in (16, 7, 2):
        whole = ours.draw(0, size, (size, 3, 9, 12))
        parts = []
        for rank in range(world):
            monkeypatch.setattr(mixup_module, "dist", SimpleNamespace(rank=lambda rank=rank: rank, world_size=lambda: world))
            parts.append(ours.draw(0, size, (size, 3, 9, 12)))
        monkeypatch.undo()
        sizes = [len(part) for part in np.array_split(np.arange(size), world)]
        if mode == "batch":
            assert all(torch.equal(part, whole) for part in parts)
            continue
        assert [len(part) for part in parts] == [max(num, 1) for num in sizes]
        if mode == "elem":
            assert torch.equal(torch.cat([part for part, num in zip(parts, sizes, strict=True) if num]), whole)
        else:
            assert all(torch.equal(part, part.flip(0)) for part in parts)
            firsts = torch.cat([part[: num // 2] for part, num in zip(parts, sizes, strict=True)])
            assert torch.equal(firsts, whole[: len(firsts)])


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_a_share_of_one_image_or_none_trains(monkeypatch: pytest.MonkeyPatch, size: int, mode: str) -> None:
    training = make(mixup={**KINDS["both"], "prob": 1.0, "mode": mode})
    monkeypatch.setattr(mixup_module, "dist", SimpleNamespace(rank=lambda: 1, world_size=lambda: 2))
    loader = SimpleNamespace(num_batches=1, batch_size_of=lambda step: size + 1, local_batch_size_of=lambda step: size)
    assert train_step(training, make_batches(size)[0], loader)  # type: ignore[arg-type]
    assert torch.isfinite(training.sums).all()
    assert training.guard.num_bad_steps() == 0


@pytest.mark.parametrize("kind", ["cutmix", "both"])
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_recorded_steps_mix_as_plain_ones(kind: str, mode: str) -> None:
    """The draw of each step is an input of the recording; here a function that is called again stands for a CUDA graph."""
    sizes = (8,) * 7 + (5,)
    sections = {"mixup": {**KINDS[kind], "mode": mode}, "optim": {"lr": 1e-2}, "train": {"epochs": 4}}
    made: list[int] = []
    plain, ours = make(**sections), recorded(make(**sections), made)
    for training in (plain, ours):
        for one in make_batches(*sizes):
            train_step(training, one, loader_of(*sizes))  # type: ignore[arg-type]
    assert made
    torch.testing.assert_close(ours.sums, plain.sums, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_mixing_does_not_wait_for_the_device(mode: str) -> None:
    ours = build(**KINDS["both"], mode=mode)
    images, labels = (tensor.cuda() for tensor in batch(8))
    ours(images, labels, epoch=0, step=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed, _ = ours(images, labels, epoch=0, step=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, _ = ours(images.cpu(), labels.cpu(), epoch=0, step=1)
    torch.testing.assert_close(mixed.cpu(), expected)
