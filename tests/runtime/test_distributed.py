"""Several processes as far as one can tell: who it is, what it gets of a batch, a GPU and the cores, which rate the batch has."""

import numpy as np
import pytest
import torch
from helpers.loader_images import CPU, SIZE
from helpers.tiny_training import make
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hw1.config.recipe import DataConfig, OptimConfig, Recipe, TrainConfig, base_lr
from hw1.data.loader.loader import build_eval_loader, build_train_loader
from hw1.data.loader.sampler import EpochBatches
from hw1.errors import UserError
from hw1.models.freeze import set_train_mode
from hw1.runtime import cpu as workers
from hw1.runtime import distributed as dist
from hw1.runtime.device import pick_device

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


def be(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int, local_rank: int = 0, local_world_size: int = 1) -> None:
    monkeypatch.setattr(dist, "_process", dist.ProcessInfo(rank, world_size, local_rank, local_world_size))


# ------------------------------------------------------------------------------------------------------------- who it is


def test_torchrun_says_who_this_is() -> None:
    assert dist._process_info(TORCHRUN) == dist.ProcessInfo(rank=5, world_size=8, local_rank=1, local_world_size=4)
    assert dist._process_info({}) == dist.ProcessInfo(0, 1, 0, 1)
    assert dist._process_info({"RANK": "5", "WORLD_SIZE": "8"}).world_size == 1, "some clusters set these for other purposes"


def test_alone_everything_is_as_if_it_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    with dist.process_group():
        assert (dist.rank(), dist.world_size(), dist.is_main()) == (0, 1, True)
        for run in (dist.all_or_raise, dist.run_on_rank0, dist.first_on_each_machine):
            assert run(lambda: 7) == 7
            with pytest.raises(ZeroDivisionError):
                run(lambda: 1 // 0)
        assert dist.gather("x") == ["x"]
        dist.require_same({"train.amp": "bf16"})
        tensor = torch.ones(2)
        dist.all_reduce_(tensor)
        assert tensor.tolist() == [1.0, 1.0]
        assert not torch.distributed.is_initialized()


# --------------------------------------------------------------------------------------------------------- what it gets


@given(num=st.integers(1, 90), batch=st.integers(1, 40), world_size=st.integers(1, 9), data=st.data())
def test_shares_put_together_are_the_batches(num: int, batch: int, world_size: int, data: st.DataObject) -> None:
    whole = EpochBatches(num, batch, 118, True)
    parts = [EpochBatches(num, batch, 118, True, rank=rank, world_size=world_size) for rank in range(world_size)]
    epoch, start = data.draw(st.integers(0, 9)), data.draw(st.integers(0, whole.num_batches))
    for each in (whole, *parts):
        each.seek(epoch, start)
    for step, (keys, *shares) in enumerate(zip(whole, *parts, strict=True), start=start):
        assert [key for share in shares for key in share] == keys
        lengths = [len(share) for share in shares]
        assert lengths == [len(part) for part in np.array_split(np.arange(len(keys)), world_size)]
        assert lengths == [part.local_batch_size_of(step) for part in parts]
        assert len(keys) == whole.local_batch_size_of(step) == parts[0].batch_size_of(step)
        assert all(part.local_batch_size_of(step) <= part.local_batch_size_of(0) for part in parts), "memory is made for the first"
    assert parts[-1].first(7) == whole.first(7)


def test_loaders_of_all_ranks_give_the_images_of_one(images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmented alike; of the last training batch, of 2, one of three ranks has nothing; for evaluation each has its own batch size."""
    recipe = Recipe(aug={"size": 24}, data=DataConfig(batch_size=7, eval_batch_size=4, num_workers=0))
    for build, num_batches in ((build_train_loader, 4), (build_eval_loader, 2)):
        be(monkeypatch, 0, 1)
        alone = {
            index: image
            for batch in build(images, recipe, CPU).epoch(3)
            for index, image in zip(batch.index.tolist(), batch.image, strict=True)
        }
        found = {}
        for rank in range(3):
            be(monkeypatch, rank, 3)
            batches = list(build(images, recipe, CPU).epoch(3))
            assert len(batches) == num_batches
            assert all(batch.image.shape[1:] == (3, 24, 24) and len(batch.image) == len(batch.label) for batch in batches)
            found |= {index: image for batch in batches for index, image in zip(batch.index.tolist(), batch.image, strict=True)}
        assert found.keys() == alone.keys() == set(range(SIZE))
        assert all(torch.allclose(found[index], alone[index], atol=1e-5) for index in alone)


def test_each_process_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    before = torch.get_num_threads()
    try:
        for num, variable, expected in ((1, "1", 1), (2, "1", 4), (3, "1", 2), (2, "3", 3), (16, "1", 1)):
            be(monkeypatch, 0, num, local_world_size=num)
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
            torch.set_num_threads(int(variable))  # as torch takes it from the variable when it is imported
            workers.limit_threads()
            assert torch.get_num_threads() == expected, (num, variable)
        be(monkeypatch, 0, 2, local_world_size=2)
        assert workers.default_num_workers(torch.device("cuda")) == 3
    finally:
        torch.set_num_threads(before)


def test_each_process_has_a_gpu_or_is_told_that_there_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert pick_device(TrainConfig()) == torch.device("cuda")
    be(monkeypatch, 3, 4, local_rank=1, local_world_size=2)
    assert pick_device(TrainConfig()) == torch.device("cuda", 1)
    assert chosen == [1]
    assert pick_device(TrainConfig(device="cpu")) == CPU
    be(monkeypatch, 3, 4, local_rank=3, local_world_size=4)
    with pytest.raises(UserError, match=r"train\.device: 4 processes, but 2 GPUs on this machine"):
        pick_device(TrainConfig())


# ------------------------------------------------------------------------------------------------------------- BatchNorm


def test_synchronised_batchnorm_takes_the_place_of_every_other_and_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    freeze = {"stages": ("layer1",), "bn": "eval"}
    plain = make(freeze=freeze, train={"sync_bn": True})
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in plain.model.modules()), "one process needs none"
    be(monkeypatch, 0, 2)
    synchronised = make(freeze=freeze, train={"sync_bn": True})
    kinds = {type(module) for module in synchronised.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
    set_train_mode(synchronised.model, synchronised.recipe.freeze)
    assert not synchronised.model.get_submodule("layer1.0.bn1").training
    assert not synchronised.model.get_parameter("layer1.0.bn1.weight").requires_grad
    assert synchronised.model.get_submodule("layer2.0.bn1").training
    synchronised.model.load_state_dict(plain.model.state_dict())
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(synchronised.model.eval()(image), plain.model.eval()(image), atol=1e-6)


# --------------------------------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize(("rule", "expected"), [("none", 1e-3), ("linear", 8e-3), ("sqrt", 1e-3 * 8**0.5)])
def test_the_rate_follows_the_images_of_a_step(rule: str, expected: float) -> None:
    recipe = Recipe(optim=OptimConfig(lr=1e-3, lr_scale=rule, lr_batch=16), data=DataConfig(batch_size=32), train=TrainConfig(grad_accum=4))
    assert base_lr(recipe) == pytest.approx(expected)


def test_the_optimizer_and_the_schedule_start_from_the_rescaled_rate() -> None:
    optim = {"lr": 1e-3, "lr_scale": "linear", "lr_batch": 8}
    training = make(optim=optim, data={"batch_size": 32}, sched={"name": "cosine", "warmup_epochs": 0.0})
    training.schedule.before_step(0)
    assert training.schedule.lr == training.optimizer.defaults["lr"] == pytest.approx(4e-3)
