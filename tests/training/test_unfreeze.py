"""Stages that are frozen for the first epochs: `freeze.until_epoch`."""

import copy

import pytest
import torch
from helpers.tiny_training import NUM_STEPS, loader_of, make, make_batches

from hw1.models.freeze import set_train_mode
from hw1.training.check_state import check_state
from hw1.training.forward import FrozenPrefix
from hw1.training.train_state import TrainState
from hw1.training.train_step import train_step

SIZES = (4,) * NUM_STEPS
KEYS = {"mixup": {"prob": 0.5, "alpha": 1.0}, "sched": {"name": "cosine"}, "train": {"epochs": 3, "ema_decay": 0.9}}


def state(until: int | None = 1, bn: str = "eval", name: str = "adamw") -> TrainState:
    freeze = {"stages": ("stem", "layer1"), "bn": bn, "until_epoch": until}
    return make(**copy.deepcopy(KEYS), freeze=freeze, optim={"lr": 1e-2, "name": name})


def train(training: TrainState, until: int = NUM_STEPS) -> None:
    """The epoch under way, as the trainer does it, up to a step."""
    training.unfreeze()
    set_train_mode(training.model, training.freeze)
    for batch in make_batches(*SIZES)[training.progress.step : until]:
        train_step(training, batch, loader_of(*SIZES))  # type: ignore[arg-type]


def values(training: TrainState) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_the_stages_are_trained_from_that_epoch_on(bn: str) -> None:
    training = state(bn=bn)
    before = values(training)
    frozen = [name for name, parameter in training.model.named_parameters() if not parameter.requires_grad]
    assert any(name.startswith("conv1") for name in frozen)
    assert any(name.startswith("layer1") for name in frozen)
    train(training)
    assert isinstance(training.forward.module, FrozenPrefix) is (bn == "eval")
    assert all(torch.equal(training.model.get_parameter(name), before[name]) for name in frozen)
    assert torch.equal(training.model.layer1[0].bn1.running_mean, before["layer1.0.bn1.running_mean"]) is (bn == "eval")
    training.start_epoch(improved=False)
    train(training)
    assert training.forward.module is training.model
    assert all(not torch.equal(training.model.get_parameter(name), before[name]) for name in frozen)
    assert not torch.equal(training.model.layer1[0].bn1.running_mean, before["layer1.0.bn1.running_mean"])
    assert training.unfreeze() is False


def test_before_that_epoch_it_is_the_run_that_stays_frozen() -> None:
    thawing, frozen = state(), state(until=None)
    for training in (thawing, frozen):
        train(training)
    assert all(torch.equal(value, values(thawing)[name]) for name, value in values(frozen).items())
    frozen.start_epoch(improved=False)
    assert frozen.unfreeze() is False
    assert frozen.frozen == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at"), [("adamw", (1, 7)), ("sgd", (0, 5)), ("lion", (1, 0))])
def test_a_run_is_continued_bit_for_bit_before_and_after(name: str, at: tuple[int, int]) -> None:
    epoch, step = at
    whole = state(name=name)
    if epoch:
        train(whole)
        whole.start_epoch(improved=False)
    train(whole, step)
    saved = whole.copy_state()
    continued = state(name=name)
    check_state(saved, continued, "runs/x")
    continued.load_state_dict(saved)
    for training in (whole, continued):
        while training.progress.epoch < 2:
            train(training)
            training.start_epoch(improved=False)
    assert all(torch.equal(value, values(continued)[name]) for name, value in values(whole).items())
    assert whole.progress == continued.progress


def test_what_was_recorded_for_the_frozen_model_is_recorded_anew() -> None:
    training = state()
    training.cuda_graphs = object()  # type: ignore[assignment]
    training.start_epoch(improved=False)
    assert training.unfreeze() is True
    assert training.cuda_graphs is None


def test_parameters_that_are_no_ones_to_train_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the fixed positions of some of timm's transformers."""
    from hw1.training import build_state as module

    build_model = module.build_model

    def with_fixed(*args: object, **kwargs: object) -> torch.nn.Module:
        model = build_model(*args, **kwargs)  # type: ignore[arg-type]
        model.layer1[0].bn1.weight.requires_grad_(False)
        return model

    monkeypatch.setattr(module, "build_model", with_fixed)
    training = state()
    train(training)
    training.start_epoch(improved=False)
    train(training)
    assert not training.model.layer1[0].bn1.weight.requires_grad
    assert training.model.layer1[0].bn2.weight.requires_grad
