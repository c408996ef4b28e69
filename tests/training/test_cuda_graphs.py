"""Recorded steps: with a recorder that only does again what it was given, they train as plain steps do; on CUDA by real graphs."""

import copy

import pytest
import torch
from helpers.tiny_training import loader_of, make, make_batches, recorded

from hw1.training import train_step as step_module
from hw1.training.cuda_graphs import EAGER_STEPS
from hw1.training.train_step import train_step

SIZES = (8, 8, 8, 8, 5) * 2
SECTIONS = {
    "mixup": {"prob": 0.5, "alpha": 1.0},
    "train": {"ema_decay": 0.9, "epochs": 4},
    "sched": {"name": "cosine", "warmup_epochs": 1.0},
    "optim": {"lr": 1e-2, "weight_decay": 0.1},
    "freeze": {"stages": ("stem", "layer1"), "bn": "eval"},
}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_recorded_steps_train_as_plain_ones(name: str) -> None:
    made: list[int] = []
    sections = {**SECTIONS, "optim": {**SECTIONS["optim"], "name": name, "clip_grad": 1.0}}
    plain, ours = make(**copy.deepcopy(sections)), recorded(make(**copy.deepcopy(sections)), made)
    batches = make_batches(*SIZES) * 2
    for training in (plain, ours):
        for batch in batches:
            assert train_step(training, batch, loader_of(*SIZES, *SIZES))
    assert len(made) == 2  # the whole batch's and the smaller one's
    assert SIZES.count(5) * 2 > EAGER_STEPS
    assert ours.progress == plain.progress
    torch.testing.assert_close(ours.sums, plain.sums, rtol=1e-4, atol=1e-4)
    for kind in ("model", "ema"):
        for key, value in plain.state_dict()[kind].items():
            torch.testing.assert_close(ours.state_dict()[kind][key], value, rtol=1e-3, atol=1e-4, msg=f"{kind} {key}")
    groups = ours.optimizer.param_groups
    assert all(type(group["lr"]) is float and not group.get("capturable") for group in groups)
    assert groups[0]["lr"] == plain.optimizer.param_groups[0]["lr"]


def test_a_loss_that_is_not_finite_is_found_at_its_step() -> None:
    training = recorded(make(), [])
    batches = make_batches(*[8] * 8)
    batches[5] = batches[5]._replace(image=batches[5].image * torch.inf)
    weights = None
    for number, batch in enumerate(batches):
        if number == 5:
            weights = copy.deepcopy(training.model.state_dict())
        train_step(training, batch, loader_of(*[8] * 8))
    assert training.guard.num_bad_steps() == 3
    assert all(torch.equal(weights[key], value) for key, value in training.model.state_dict().items())


def test_steps_are_recorded_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "CudaGraphRecorder", lambda: pytest.fail("no recording was asked for"))
    training = make()
    for batch in make_batches(8, 8, 8, 8, 8):
        train_step(training, batch, loader_of(*[8] * 5))
    assert training.cuda_graphs is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_train_as_plain_steps() -> None:
    from helpers.tiny_training import make_on

    device = torch.device("cuda")
    sections = {**SECTIONS, "train": {**SECTIONS["train"], "amp": "off", "channels_last": True}}
    plain, ours = (make_on(device, **copy.deepcopy(sections)) for _ in range(2))
    ours.use_cuda_graphs = True
    batches = [batch._replace(image=batch.image.to(device), label=batch.label.to(device)) for batch in make_batches(*SIZES)] * 2
    for training in (plain, ours):
        for batch in batches:
            train_step(training, batch, loader_of(*SIZES, *SIZES))
    assert len(ours.cuda_graphs._recordings) == 2
    torch.testing.assert_close(ours.sums, plain.sums, rtol=1e-2, atol=1e-2)
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[key], value, rtol=2e-2, atol=2e-2, msg=key)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_graph_draws_anew_after_its_generator_was_seeded() -> None:
    """Dropout of a step is a function of the step: the same seed gives the same mask in a replay, another seed another."""
    from hw1.runtime.device import seed_generators

    device = torch.device("cuda")
    ones, out = torch.ones(1024, device=device), torch.zeros(1024, device=device)
    torch.nn.functional.dropout(ones, 0.5)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.copy_(torch.nn.functional.dropout(ones, 0.5))
    masks = []
    for seed in (1, 2, 1):
        seed_generators(seed, device)
        graph.replay()
        masks.append(out.clone())
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])
