"""The training step against what it stands for: windows of batches, frozen stages, sums, broken losses."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_training import loader_of, make, make_batches, newest, steps, stopped, trainer_of

from hw1.errors import Interrupted
from hw1.models.freeze import set_train_mode
from hw1.training.train_step import train_step


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_window_of_uneven_batches_is_one_large_batch(optimizer: str) -> None:
    """Weights after one update from 8 + 8 + 4 images equal those after one from 20; BatchNorm fixed, as its statistics are a batch's."""
    whole = make(optim={"lr": 1e-2, "name": optimizer})
    windows = make(optim={"lr": 1e-2, "name": optimizer}, train={"grad_accum": 3})
    for training in (whole, windows):
        training.model.eval()
    assert steps(whole, 20) == [True]
    assert steps(windows, 8, 8, 4) == [False, False, True]
    assert whole.progress.updates == windows.progress.updates == 1
    for name, parameter in whole.model.named_parameters():
        torch.testing.assert_close(windows.model.get_parameter(name), parameter, rtol=1e-3, atol=2e-5 if optimizer == "sgd" else 2e-3)


def test_the_last_window_of_an_epoch_may_be_short() -> None:
    training = make(train={"grad_accum": 3})
    assert steps(training, 8, 8, 8, 8, 5) == [False, False, True, False, True]


def test_sums_are_exact_over_samples() -> None:
    training = make(optim={"lr": 1e-12})
    training.model.eval()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    steps(training, 16, 3)
    training.model.load_state_dict(before)
    logits, labels = [], []
    with torch.no_grad():
        for batch in make_batches(16, 3):
            logits.append(training.model(batch.image).double().numpy())
            labels.append(batch.label.numpy())
    z, y = np.concatenate(logits), np.concatenate(labels)
    nll = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y]
    loss, correct, count = training.sums.tolist()
    assert count == 19
    assert loss / count == pytest.approx(nll.mean(), rel=1e-4)
    assert correct == (z.argmax(1) == y).sum()


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_frozen_stages_keep_their_weights_and_only_with_eval_their_statistics(bn: str) -> None:
    training = make(freeze={"stages": ("stem", "layer1"), "bn": bn}, optim={"lr": 1e-2, "weight_decay": 0.1})
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    set_train_mode(training.model, training.recipe.freeze)
    steps(training, 8)
    after = training.model.state_dict()
    frozen = [name for name in before if name.startswith(("conv1", "bn1", "layer1"))]
    weights = [name for name in frozen if "running" not in name and "tracked" not in name]
    assert all(torch.equal(before[name], after[name]) for name in weights)
    assert torch.equal(before["bn1.running_mean"], after["bn1.running_mean"]) == (bn == "eval")
    assert not torch.equal(before["layer2.0.bn1.running_mean"], after["layer2.0.bn1.running_mean"])
    assert not torch.equal(before["layer4.0.conv1.weight"], after["layer4.0.conv1.weight"])


def test_gradient_is_clipped() -> None:
    training = make(optim={"lr": 1.0, "name": "sgd", "betas": (0.0, 0.9), "weight_decay": 0.0, "clip_grad": 1e-3})
    before = [parameter.clone() for parameter in training.model.parameters()]
    steps(training, 8)
    moved = torch.stack([(a - b).norm() for a, b in zip(training.model.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)


def test_state_survives_a_round_trip() -> None:
    training = make(train={"ema_decay": 0.9}, mixup={"prob": 1.0, "alpha": 1.0})
    steps(training, 8, 8)
    other = make(train={"ema_decay": 0.9}, mixup={"prob": 1.0, "alpha": 1.0})
    other.load_state_dict(copy.deepcopy(training.state_dict()))  # a file in between would copy, too
    for one in (training, other):
        torch.manual_seed(1)
        train_step(one, make_batches(8)[0], loader_of(8, 8, 8))
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    for name, value in training.evaluated.state_dict().items():
        assert torch.equal(value, other.evaluated.state_dict()[name]), name


def test_a_signal_saves_first(tmp_path: Path) -> None:
    training = make()
    steps(training, 8)
    with pytest.raises(Interrupted) as caught:
        stopped(trainer_of(training, tmp_path, lambda: 15))
    assert caught.value.exit_code == 143
    assert torch.load(newest(tmp_path), weights_only=True)["progress"]["step"] == 1


def test_class_weights_are_those_of_the_training_images() -> None:
    plain, weighted = make(), make(loss={"class_weights": "balanced"})
    (batch,) = make_batches(20)
    train_step(plain, batch, loader_of(20, 20))
    train_step(weighted, batch, loader_of(20, 20))
    logits = make().model.train()(batch.image).detach().double()
    weights = torch.tensor([12 / 5 / count for count in (6, 3, 1, 1, 1)], dtype=torch.float64)
    nll = -logits.log_softmax(1)[range(20), batch.label]
    assert plain.sums[0].item() == pytest.approx(nll.sum().item(), rel=1e-5)
    assert weighted.sums[0].item() == pytest.approx((weights[batch.label] * nll).sum().item(), rel=1e-5)
