"""What several processes compute together, beside what one computes alone: `test_ranks.py` has `main` called in each of them."""

import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.loader_images import AUG, CPU, write_images
from helpers.tiny_training import make, make_batches, newest, trainer_of
from helpers.train_commands import assert_equal
from hw1.data.augment.transforms import build_eval_transform
from hw1.data.image_folder import ImageSet
from hw1.data.loader.base import Batch
from hw1.data.loader.loader import Loader
from hw1.errors import Interrupted, RunError, UserError
from hw1.evaluation.evaluate import evaluate
from hw1.runs.checkpoint import load_state
from hw1.runtime import distributed as dist
from hw1.training.train_state import TrainState
from hw1.training.train_step import train_step

SIZES = (8, 7, 5, 2)  # of three processes one has nothing of the last batch
SGD: dict[str, Any] = {"name": "sgd", "lr": 0.05, "clip_grad": 1.0}
"""AdamW's first steps are little more than the signs of the gradients, which would turn rounding into differences."""


def main(folder: str) -> None:
    root = Path(folder)
    images = write_images(root / f"images{os.environ['RANK']}")
    alone = compute(images)
    with dist.process_group():
        together = compute(images)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        check_all_have_the_same_after_a_step()
        check_gradients_stay_here_until_the_last_batch_of_a_step()
        for scaled in (False, True):
            check_a_loss_that_is_not_finite_in_one_stops_all(root / f"scaled{scaled}", scaled=scaled)
        check_a_signal_to_one_stops_all_at_one_step(root / "stop")
        check_rank_0_decides_when_to_save()
        check_errors_reach_all_and_are_told_once()
        check_dropout_draws_differ()
        check_only_rank_0_speaks()


# ------------------------------------------------------------------------------------------------- alone and together


def compute(images: ImageSet) -> dict[str, Any]:
    return evaluations(images) | steps_in_eval_mode(1) | steps_in_eval_mode(2) | statistics()


def evaluations(images: ImageSet) -> dict[str, Any]:
    """Of sets that do not divide, and of fewer images than processes."""
    model = make(aug={"size": 24}).model
    found: dict[str, Any] = {}
    for num in (len(images), 7, 1):
        loader = loader_of_share(images.subset(range(num)), batch_size=2 * dist.world_size())
        predictions = evaluate(model, loader)
        assert predictions.index.tolist() == list(range(num))
        found |= {f"labels of {num}": predictions.labels, f"logits of {num}": predictions.logits}
    return found


def loader_of_share(images: ImageSet, *, batch_size: int) -> Loader:
    settings: dict[str, Any] = {"shuffle": False, "seed": 118, "num_workers": 0, "device": CPU, "aug": AUG, "channels_last": True}
    place = {"rank": dist.rank(), "world_size": dist.world_size()}
    return Loader(images, build_eval_transform(AUG), batch_size=batch_size, **settings, **place)


def steps_in_eval_mode(grad_accum: int) -> dict[str, Any]:
    """Weights, their average, and sums; BatchNorm is fixed, and there is no Mixup or dropout."""
    training = make(optim=SGD, train={"grad_accum": grad_accum, "ema_decay": 0.9})
    training.wrap_ddp()
    training.model.eval()
    take_steps(training)
    assert training.ema is not None
    states = {"weights": training.model.state_dict(), "average": training.ema.module.state_dict(), "sums": {"": training.sums}}
    return {f"{kind} {name}, accumulated {grad_accum}": value for kind, state in states.items() for name, value in state.items()}


def statistics() -> dict[str, Any]:
    """The first BatchNorm's mean, which is that of all images whoever had them; its variance is of each process' images alone."""
    training = make(optim=SGD)
    training.wrap_ddp()
    training.model.train()
    take_steps(training, (8,))
    return {name: training.model.get_buffer(f"conv1.1.{name}") for name in ("running_mean", "num_batches_tracked")}


def take_steps(training: TrainState, sizes: tuple[int, ...] = SIZES, until: int | None = None) -> None:
    for batch in make_batches(*sizes)[:until]:
        train_step(training, share_of(batch), loader_for(sizes))


def share_of(batch: Batch) -> Batch:
    return Batch(*(part.tensor_split(dist.world_size())[dist.rank()] for part in batch))


def loader_for(sizes: tuple[int, ...]) -> Any:
    shares = [len(torch.arange(size).tensor_split(dist.world_size())[dist.rank()]) for size in sizes]
    return SimpleNamespace(num_batches=len(sizes), batch_size_of=lambda step: sizes[step], local_batch_size_of=lambda step: shares[step])


# ------------------------------------------------------------------------------------------------------- together only


def check_all_have_the_same_after_a_step() -> None:
    training = make(train={"ema_decay": 0.9, "grad_accum": 3}, mixup={"prob": 1.0, "alpha": 1.0}, model={**MODEL, "drop_rate": 0.5})
    training.wrap_ddp()
    training.model.train()
    take_steps(training)
    state = training.copy_state()
    first, *others = dist.gather(digests(state))
    assert others == [first] * len(others)


def digests(state: Any) -> Any:
    """The same with every tensor's digest in its place."""
    if isinstance(state, dict):
        return {key: digests(value) for key, value in state.items() if key != "epoch_seconds"}
    return hashlib.sha256(state.numpy().tobytes()).hexdigest() if isinstance(state, torch.Tensor) else state


MODEL = {"name": "resnet18_half_cbam", "pretrained": False, "drop_layer3": 0.0, "drop_rate": 0.0}


def check_gradients_stay_here_until_the_last_batch_of_a_step() -> None:
    training = make(train={"grad_accum": 2})
    training.wrap_ddp()
    training.model.eval()
    take_steps(training, until=1)
    gradient = training.model.get_parameter("fc.weight").grad
    assert gradient is not None
    assert len(set(dist.gather(digests(gradient)))) == dist.world_size()


def check_a_loss_that_is_not_finite_in_one_stops_all(folder: Path, *, scaled: bool) -> None:
    """Two good steps, a bad one, one more: all raise, and what is saved is what two good steps give."""
    clean, hurt = trainings = [make(optim={"lr": 1e-2, "clip_grad": 1.0}, train={"ema_decay": 0.9}) for _ in range(2)]
    for training in trainings:
        training.wrap_ddp()
        training.model.train()
        if scaled:
            training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)
    torch.manual_seed(1)
    take_steps(clean, until=2)
    expected = clean.copy_state()
    torch.manual_seed(1)
    for step, batch in enumerate(make_batches(*SIZES)):
        share = share_of(batch)
        if step == 2 and dist.rank() == 1:
            share.image[0, 0, 3, 3] = torch.nan
        train_step(hurt, share, loader_for(SIZES))
    trainer = trainer_of(hurt, folder)
    folder.mkdir(exist_ok=True)
    with pytest.raises(RunError) as caught:
        trainer.running_means()
    if dist.is_main():
        assert "not finite in epoch 1, step 3" in str(caught.value)
        assert str(caught.value).endswith(": 16.jpg, 17.jpg, 18.jpg, 19.jpg, 20.jpg, 21.jpg, 22.jpg, 23.jpg"), "the images of all processes"
        saved = load_state(newest(folder))
        del saved["format"]
        assert_equal(saved, expected, but=("epoch_seconds", "_growth_tracker"))
    else:
        assert str(caught.value) == ""


def check_a_signal_to_one_stops_all_at_one_step(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    training = make()
    training.wrap_ddp()
    training.model.train()
    signals = iter([None, 15, None, None, None, None] if dist.rank() == 1 else [None] * 6)
    trainer = trainer_of(training, folder, lambda: next(signals))

    def train() -> None:
        for batch in make_batches(*SIZES):
            train_step(training, share_of(batch), loader_for(SIZES))
            trainer.stop_and_save.sync()
            trainer.stop_if_asked()

    with pytest.raises(Interrupted) as caught:
        train()
    assert caught.value.exit_code == 143
    assert training.progress.updates == 3, "told after the second step, known after the third"
    assert bool(str(caught.value)) == dist.is_main()
    assert load_state(newest(folder))["progress"]["updates"] == 3, "all wait until it is on disk"


def check_rank_0_decides_when_to_save() -> None:
    """By its clock, once; all know at the same meeting."""
    training = make(checkpoint={"every_minutes": 1.0})
    trainer = trainer_of(training, Path())
    trainer.stop_and_save._saved_at = time.monotonic() - (100.0 if dist.is_main() else 1000.0)
    saves, counts = [], []
    trainer.save = lambda: saves.append(1)  # type: ignore[method-assign]
    for _ in range(5):
        trainer.stop_and_save.sync()
        trainer.save_if_due()
        counts.append(len(saves))
    assert counts == [0, 1, 1, 1, 1]


def check_errors_reach_all_and_are_told_once() -> None:
    me = dist.rank()

    def fail(*ranks: int, error: type[Exception] = UserError, text: str = "data.root: none") -> Any:
        if me in ranks:
            raise error(text)
        return me

    assert dist.all_or_raise(fail) == me
    assert dist.run_on_rank0(lambda: {"rank": me}) == {"rank": 0}
    assert dist.first_on_each_machine(fail) == me
    everyone = range(dist.world_size())
    for work, expected in [
        (lambda: dist.all_or_raise(lambda: fail(*everyone)), "data.root: none"),
        (lambda: dist.all_or_raise(lambda: fail(1)), "rank 1: data.root: none"),
        (lambda: dist.run_on_rank0(lambda: fail(0)), "data.root: none"),
        (lambda: dist.first_on_each_machine(lambda: fail(0)), "data.root: none"),
        (lambda: dist.first_on_each_machine(lambda: fail(1)), "rank 1: data.root: none"),
        (lambda: dist.all_or_raise(lambda: fail(1, text=f"of {me}")), "rank 1: of 1"),
        (lambda: dist.require_same({"train.amp": "bf16" if me == 1 else "fp32"}), "train.amp: .* fp32 to rank 0, bf16 to rank 1"),
    ]:
        with pytest.raises(UserError, match=f"^{expected}$" if me == 0 else "^$"):
            work()
    with pytest.raises(RunError, match="^rank 1: broken$" if me == 0 else "^$"):
        dist.all_or_raise(lambda: fail(1, error=RunError, text="broken"))
    dist.require_same({"train.amp": "bf16"})


def check_dropout_draws_differ() -> None:
    """From step to step and from process to process; the same again at the same step."""
    training = make()
    draws = []
    for step in (0, 0, 7):
        training.progress.step = step
        training.seed_dropout()
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1] != draws[2]
    all_draws = [draw for each in dist.gather(draws[1:]) for draw in each]
    assert len({tuple(draw) for draw in all_draws}) == 2 * dist.world_size()


def check_only_rank_0_speaks() -> None:
    print(f"hello of rank {dist.rank()}")


def hang(folder: str) -> None:
    """Rank 1 does not come to a meeting; rank 0 leaves after a while."""
    dist.STEP_TIMEOUT, has_left = timedelta(seconds=5), Path(folder, "left")

    def meet() -> None:
        with dist.process_group():
            if dist.rank() == 1:
                while not has_left.exists():
                    time.sleep(0.1)
                raise RunError("was late")
            dist.gather(1)

    with pytest.raises(RunError) as caught:
        meet()
    has_left.touch()
    if os.environ["RANK"] == "0":
        assert str(caught.value).startswith("another process of this run has died or cannot be reached")
