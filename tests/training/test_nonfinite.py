"""A step whose loss or gradient is not finite: nothing of it remains, nothing after it counts, and it is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import loader_of, make, make_batches, newest, steps, trainer_of

from hw1.errors import RunError
from hw1.runs.checkpoint import load_state
from hw1.training.checkpointer import is_finite
from hw1.training.train_state import TrainState
from hw1.training.train_step import train_step

SIZES = [8] * 8


def same(a: Any, b: Any, path: str = "state") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a.keys() - {"epoch_seconds"}:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def poison_image(training: TrainState, batch: Any) -> None:
    """Loss, gradient and BatchNorm's statistics are NaN."""
    batch.image[2, 0, 5, 5] = float("nan")


def poison_gradient(training: TrainState, batch: Any) -> None:
    """The loss is fine; one number of one gradient is infinite."""

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        handle.remove()
        gradient = gradient.clone()
        gradient[0, 0, 0, 0] = float("inf")
        return gradient

    handle = training.model.get_parameter("layer4.0.conv1.weight").register_hook(hook)


def run_steps(training: TrainState, until: int, poison: tuple[int, Any] | None = None, after: Any = None) -> None:
    for step, batch in enumerate(make_batches(*SIZES)[:until]):
        if poison and step == poison[0]:
            poison[1](training, batch)
        train_step(training, batch, loader_of(*SIZES))
        if after:
            after(step)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"optim": {"lr": 1e-2, "name": "sgd"}, "train": {"ema_decay": 0.9}},
    {"optim": {"lr": 1e-2, "clip_grad": 1.0}, "sched": {"name": "cosine", "warmup_epochs": 1}, "train": {"ema_decay": 0.9}},
    {"model": {"name": "resnet18_half_cbam", "pretrained": False}, "mixup": {"prob": 1.0, "alpha": 1.0}},
]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("poison", [poison_image, poison_gradient])
@pytest.mark.parametrize("sections", VARIANTS)
def test_all_is_as_before_the_bad_step(tmp_path: Path, sections: dict[str, Any], poison: Any, waits: bool) -> None:
    """Three good steps, a bad one, two more: what is then saved is what three good steps alone give, bit for bit."""
    clean, hurt = make(**sections), make(**sections)
    hurt.guard.waits = waits
    torch.manual_seed(1)
    run_steps(clean, 3)
    expected = clean.copy_state()
    torch.manual_seed(1)
    run_steps(hurt, 6, (3, poison))
    same({name: p.detach() for name, p in hurt.model.named_parameters()}, {n: p.detach() for n, p in clean.model.named_parameters()})
    same(dict(hurt.model.named_buffers()), dict(clean.model.named_buffers()))
    trainer = trainer_of(hurt, tmp_path)
    with pytest.raises(RunError, match="not finite in epoch 1, step 4") as caught:
        trainer.running_means()
    assert "images of this step: 24.jpg, 25.jpg, 26.jpg" in str(caught.value)
    saved = load_state(newest(tmp_path))
    del saved["format"]
    same(saved, expected)
    for act in (trainer.raise_if_nonfinite, trainer.save):  # it stays so
        with pytest.raises(RunError, match="not finite in epoch 1, step 4"):
            act()


@pytest.mark.parametrize("bad", [2, 3])
def test_all_batches_of_a_step_go_with_the_bad_one(tmp_path: Path, bad: int) -> None:
    """Accumulation: the state is that before the window, whichever of its batches was bad and however far the next has come."""
    sections: dict[str, Any] = {"train": {"grad_accum": 2, "ema_decay": 0.9}}
    clean, hurt = make(**sections), make(**sections)
    torch.manual_seed(1)
    run_steps(clean, 2)
    expected = clean.copy_state()
    torch.manual_seed(1)
    run_steps(hurt, 5, (bad, poison_image))
    with pytest.raises(RunError, match="not finite in epoch 1, step 3") as caught:
        trainer_of(hurt, tmp_path).raise_if_nonfinite()
    assert str(caught.value).count(".jpg") == 16
    saved = load_state(newest(tmp_path))
    del saved["format"]
    same(saved, expected)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_bad_first_step_leaves_a_state_to_start_from(tmp_path: Path, name: str) -> None:
    """torch's fused SGD does not fill the momentum of a first step that is left out."""
    clean, hurt, again = (make(optim={"lr": 1e-2, "name": name}) for _ in range(3))
    steps(hurt, 8)  # memory that holds numbers
    hurt = make(optim={"lr": 1e-2, "name": name})
    torch.manual_seed(1)
    run_steps(hurt, 2, (0, poison_image))
    with pytest.raises(RunError, match="step 1"):
        trainer_of(hurt, tmp_path).raise_if_nonfinite()
    again.load_state_dict(load_state(newest(tmp_path)))
    for training in (clean, again):
        torch.manual_seed(1)
        run_steps(training, 3)
    same(dict(again.model.state_dict()), dict(clean.model.state_dict()))


def test_good_steps_in_between_are_forgotten(tmp_path: Path) -> None:
    training = make()
    trainer = trainer_of(training, tmp_path)
    with pytest.raises(RunError, match="step 6"):
        run_steps(training, 8, (5, poison_image), after=lambda step: trainer.raise_if_nonfinite() if step % 2 else None)
    assert training.progress.step == 5


def test_an_fp16_scalers_own_skips_are_no_alarm(tmp_path: Path) -> None:
    """An infinite gradient halves the scale and leaves the step out; a loss that is not finite is an alarm with a scaler, too."""
    training = make(optim={"lr": 1e-3, "clip_grad": 1.0})
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    before = {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}
    trainer = trainer_of(training, tmp_path)
    run_steps(training, 1, (0, poison_gradient))
    trainer.raise_if_nonfinite()
    same({name: parameter.detach() for name, parameter in training.model.named_parameters()}, before)
    assert training.scaler.get_scale() == 2.0**11
    run_steps(training, 1)
    trainer.raise_if_nonfinite()
    assert not torch.equal(training.model.get_parameter("fc.weight"), before["fc.weight"])
    assert training.scaler.get_scale() == 2.0**11
    before = {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}
    run_steps(training, 3, (0, poison_image))
    with pytest.raises(RunError, match="not finite"):
        trainer.raise_if_nonfinite()
    same({name: parameter.detach() for name, parameter in training.model.named_parameters()}, before)
    assert training.scaler.get_scale() == 2.0**11


def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in a step asks for a number of a tensor; that is what makes the host wait on a GPU."""
    training = make(optim={"lr": 1e-3, "clip_grad": 1.0}, train={"ema_decay": 0.9})
    training.guard.waits = True  # as on a GPU
    batches = make_batches(8, 8)
    train_step(training, batches[0], loader_of(8, 8))

    def refuse(*_: object) -> None:
        raise AssertionError("waits for the device")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    train_step(training, batches[1], loader_of(8, 8))


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_weight_that_is_not_finite_is_never_saved_over_a_good_state(tmp_path: Path, value: str) -> None:
    training = make()
    trainer = trainer_of(training, tmp_path)
    steps(training, 8)
    trainer.save()
    trainer.checkpointer.wait()
    good = newest(tmp_path).read_bytes()
    with torch.no_grad():
        training.model.get_parameter("fc.weight")[1, 2] = float(value)
    training.progress.step += 1
    trainer.save()
    with pytest.raises(RunError, match=r"not saved, as fc\.weight is not finite"):
        trainer.checkpointer.wait()
    assert newest(tmp_path).read_bytes() == good


def test_looking_for_such_a_weight_takes_no_memory_of_its_size() -> None:
    """It is done where memory has run out, too."""
    weight = torch.randn(64, 64, 32, 32).to(memory_format=torch.channels_last)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        assert is_finite(weight)
    assert max(event.cpu_memory_usage for event in profile.events()) < weight.nbytes / 1000
