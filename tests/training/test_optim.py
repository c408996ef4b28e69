"""Optimizers against their formulas in NumPy, parameter groups, and schedules (formula, torch's own, resumed)."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, PolynomialLR, ReduceLROnPlateau, StepLR

from hw1.config.contradictions import REFUSED_OPTIMIZERS
from hw1.config.library_names import OPTIMIZERS
from hw1.config.recipe import OptimConfig, SchedConfig
from hw1.errors import UserError
from hw1.training.check_state import check_optimizer as check_optimizer_state
from hw1.training.lr_schedule import Schedule, build_schedule
from hw1.training.optim import build_optimizer, check_optimizer, total_norm


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.scale = nn.Parameter(torch.ones(1, 6, 1, 1))
        self.fc = nn.Linear(6, 4)

    def no_weight_decay(self) -> set[str]:
        return {"scale"}

    def forward(self, x):
        return self.fc((self.bn(self.conv(x)) * self.scale).mean((2, 3)))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, grads: list | None = None) -> None:
    """Steps on fixed noise; appends each step's gradients by parameter name."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 3, 5, 5, generator=rng).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        if grads is not None:
            grads.append({n: p.grad.detach().clone().double().numpy() for n, p in model.named_parameters() if p.grad is not None})
        optimizer.step()


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {n: p.detach().clone().double().numpy() for n, p in model.named_parameters()}


def np_adamw(p, grads, config, decay):
    m, v = np.zeros_like(p), np.zeros_like(p)
    b1, b2 = config.betas
    for t, g in enumerate(grads, 1):
        p = p * (1 - config.lr * decay)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - config.lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
    return p


def np_sgd(p, grads, config, decay):
    velocity = np.zeros_like(p)
    for g in grads:
        g = g + decay * p
        velocity = config.betas[0] * velocity + g
        p = p - config.lr * (g + config.betas[0] * velocity)
    return p


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("decay_norm_bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_steps_are_the_formula(name, decay_norm_bias, channels_last):
    torch.manual_seed(0)
    model = Net()
    if channels_last:  # fused kernels read memory in storage order: gradients must lie as their parameters do
        model.to(memory_format=torch.channels_last)
    config = OptimConfig(name=name, lr=0.05, weight_decay=0.3, decay_norm_bias=decay_norm_bias)
    start, grads = arrays(model), []
    train(model, build_optimizer(model, config), 4, grads)
    decays = set(start) if decay_norm_bias else {"conv.weight", "fc.weight"}
    formula = {"adamw": np_adamw, "sgd": np_sgd}[name]
    for key, end in arrays(model).items():
        expected = formula(start[key], [g[key] for g in grads], config, config.weight_decay if key in decays else 0.0)
        if name == "adamw" and key == "conv.bias":
            continue  # BatchNorm follows: its gradient is rounding noise, which AdamW turns into steps of full size
        np.testing.assert_allclose(end, expected, rtol=1e-4, atol=1e-6, err_msg=key)


def test_everything_decays_in_one_group_by_default():
    model = Net()
    optimizer = build_optimizer(model, OptimConfig())
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.96), 0.045)
    assert isinstance(optimizer, torch.optim.AdamW)


def test_no_decay_group_holds_norms_biases_and_what_the_model_names():
    model = Net()
    groups = build_optimizer(model, OptimConfig(decay_norm_bias=False)).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    found = {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in groups}
    assert found == {0.0: {"conv.bias", "bn.weight", "bn.bias", "scale", "fc.bias"}, 0.045: {"conv.weight", "fc.weight"}}


@pytest.mark.parametrize("decay_norm_bias", [True, False])
def test_frozen_parameters_are_in_no_group_and_do_not_move(decay_norm_bias):
    model = Net()
    model.conv.requires_grad_(False)
    before = model.conv.weight.clone()
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, decay_norm_bias=decay_norm_bias))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    train(model, optimizer, 2)
    assert torch.equal(model.conv.weight, before)


@pytest.mark.parametrize("decay_norm_bias", [True, False])
def test_nothing_to_train_is_the_users_mistake(decay_norm_bias):
    with pytest.raises(UserError, match=r"^freeze\.stages: "):
        build_optimizer(Net().requires_grad_(False), OptimConfig(decay_norm_bias=decay_norm_bias))


def test_sgd_without_momentum():
    group = build_optimizer(Net(), OptimConfig(name="sgd", betas=(0.0, 0.9))).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.0, False)


def test_the_default_is_torchs_fused_adamw_bit_for_bit():
    ends = []
    for build in (
        lambda model: build_optimizer(model, OptimConfig()),
        lambda model: torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.96), weight_decay=0.045, fused=True),
    ):
        torch.manual_seed(0)
        model = Net().to(memory_format=torch.channels_last)
        optimizer = build(model)
        train(model, optimizer, 5)
        ends.append((list(model.state_dict().values()), optimizer.state_dict()["state"][0]["exp_avg_sq"]))
        assert optimizer.defaults["fused"]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(ends[0][0], ends[1][0], strict=True))
    assert torch.equal(ends[0][1], ends[1][1])


def test_every_optimizer_of_timm_is_taken_or_refused():
    refused = {name for name in list_optimizers() if name not in OPTIMIZERS}
    assert set(OPTIMIZERS) <= set(list_optimizers())
    assert all(name.startswith(tuple(REFUSED_OPTIMIZERS)) for name in refused)
    assert [name for name in OPTIMIZERS if check_optimizer(OptimConfig(name=name))] == []
    assert not any(get_optimizer_info(name).second_order for name in OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "kwargs", "betas", "expected"),
    [
        ("lion", {}, (0.8, 0.7), {"betas": (0.8, 0.7), "lr": 1e-4}),
        ("lamb", {"eps": 1e-3, "max_grad_norm": None}, (0.9, 0.96), {"eps": 1e-3, "max_grad_norm": None}),
        ("adan", {"betas": [0.9, 0.8, 0.7]}, (0.5, 0.5), {"betas": [0.9, 0.8, 0.7]}),
        ("rmsproptf", {}, (0.7, 0.5), {"momentum": 0.7, "alpha": 0.9}),
        ("momentum", {"dampening": 0.5}, (0.7, 0.5), {"momentum": 0.7, "nesterov": False, "dampening": 0.5}),
        ("nesterovw", {}, (0.0, 0.5), {"momentum": 0.0, "nesterov": False}),
        ("adamw", {"amsgrad": True}, (0.9, 0.96), {"amsgrad": True, "fused": True}),
        ("adamw", {"foreach": True}, (0.9, 0.96), {"foreach": True, "fused": None}),
    ],
)
def test_arguments_reach_the_optimizer(name, kwargs, betas, expected):
    config = OptimConfig(name=name, kwargs=kwargs, betas=betas)
    assert check_optimizer(config) == []
    group = build_optimizer(Net(), config).param_groups[0]
    assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("adamw", {"epz": 1e-6}, "optim.kwargs: adamw has no 'epz'; nearest: eps"),
        ("sgd", {"eps": 1e-6}, "optim.kwargs: sgd has no 'eps'; nearest: "),
        ("adamw", {"eps": "high"}, "optim.kwargs: adamw: TypeError: "),
        ("adamw", {"eps": -1.0}, "optim.kwargs: adamw: ValueError: "),
        ("lamb", {"lr": 1.0}, "optim.kwargs: lr has a key of its own, optim.lr"),
        ("lion", {"betas": [0.9, 0.9]}, "optim.kwargs: betas has a key of its own, optim.betas"),
        ("sgd", {"momentum": 0.9}, "optim.kwargs: momentum has a key of its own, optim.betas"),
        ("sgd", {"dampening": 0.5}, "optim.kwargs: sgd: ValueError: Nesterov momentum requires"),
        ("rmsproptf", {"alpha": [1]}, "optim.kwargs: rmsproptf: "),
    ],
)
def test_wrong_arguments_are_one_line(name, kwargs, message):
    (line,) = check_optimizer(OptimConfig(name=name, kwargs=kwargs))
    assert line.startswith(message)
    assert "\n" not in line


class Deep(nn.Sequential):
    """A network in timm's manner: three layers and a classifier."""

    def __init__(self) -> None:
        super().__init__(*(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 2))
        self.pretrained_cfg = {"classifier": "3"}

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^0", "blocks": r"^([12])"}


@pytest.mark.parametrize("decay_norm_bias", [True, False])
def test_rates_fall_from_layer_to_layer(decay_norm_bias):
    model, keys = Deep(), {"layer_decay": 0.5, "head_lr_scale": 10.0, "decay_norm_bias": decay_norm_bias, "lr": 0.1}
    optimizer = build_optimizer(model, OptimConfig(**keys))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for layer, rate in enumerate((0.0125, 0.025, 0.05, 1.0)):
        assert found[f"{layer}.weight"] == (pytest.approx(rate), 0.045)
        assert found[f"{layer}.bias"] == (pytest.approx(rate), 0.045 * decay_norm_bias)
    schedule = build_schedule(optimizer, SchedConfig(name="cosine", min_lr=0.0), epochs=2, steps_per_epoch=3)
    schedule.before_step(2)
    assert schedule.lr == pytest.approx(0.1 * (1 + math.cos(math.pi * 2 / 5)) / 2)
    assert [group["lr"] / group["lr_scale"] for group in optimizer.param_groups] == pytest.approx(
        [schedule.lr] * len(optimizer.param_groups)
    )


def test_the_classifiers_rate_alone():
    model = Deep()
    body, head = build_optimizer(model, OptimConfig(head_lr_scale=5.0)).param_groups
    assert [len(group["params"]) for group in (body, head)] == [6, 2]
    assert (body["lr"], head["lr"]) == (1e-4, pytest.approx(5e-4))
    assert {id(parameter) for parameter in head["params"]} == {id(parameter) for parameter in model[3].parameters()}
    model.pretrained_cfg = {"classifier": None}
    with pytest.raises(UserError, match=r"^optim\.head_lr_scale: timm names no classifier"):
        build_optimizer(model, OptimConfig(head_lr_scale=5.0))


def test_plateau_reduces_every_groups_rate_by_its_factor_and_resumes():
    def fresh() -> tuple[torch.optim.Optimizer, Schedule]:
        optimizer = build_optimizer(Deep(), OptimConfig(layer_decay=0.5, lr=0.08))
        return optimizer, build_schedule(optimizer, SchedConfig(patience=0, min_lr=1e-3), epochs=9, steps_per_epoch=3)

    optimizer, schedule = fresh()
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    for number, rate in enumerate((0.08, 0.008, 0.001, 0.001)):
        schedule.after_epoch(1.0 + number)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate * scale for scale in scales])
        assert schedule.lr == pytest.approx(rate)
        again, resumed = fresh()
        resumed.load_state_dict(schedule.state_dict())
        assert [group["lr"] for group in again.param_groups] == [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_survives_a_save_bit_for_bit(name):
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Net().to(memory_format=torch.channels_last)
        return model, build_optimizer(model, OptimConfig(name=name, lr=0.01))

    model, optimizer = fresh()
    train(model, optimizer, 2)
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    train(model, optimizer, 3)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    again, optimizer_again = fresh()
    check_optimizer_state(saved["optimizer"], optimizer_again)
    again.load_state_dict(saved["model"])
    optimizer_again.load_state_dict(saved["optimizer"])
    train(again, optimizer_again, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def optimizer_of(lr: float = 0.1, groups: int = 2) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=lr)


def rates(schedule: Schedule, steps: range) -> list[float]:
    found = []
    for step in steps:
        schedule.before_step(step)
        found.append(schedule.lr)
    return found


@pytest.mark.parametrize(("epochs", "per_epoch", "warmup"), [(5, 10, 0.0), (5, 10, 1.0), (5, 10, 0.25), (3, 1, 0.0), (2, 7, 2.0)])
def test_cosine_is_its_formula(epochs, per_epoch, warmup):
    config = SchedConfig(name="cosine", min_lr=1e-3, warmup_epochs=warmup)
    schedule = build_schedule(optimizer_of(0.1), config, epochs=epochs, steps_per_epoch=per_epoch)
    step = np.arange(epochs * per_epoch)
    warm_steps = warmup * per_epoch
    share = np.clip((step - warm_steps) / max(len(step) - 1 - warm_steps, 1), 0, 1)
    expected = 1e-3 + (0.1 - 1e-3) * (1 + np.cos(np.pi * share)) / 2
    if warmup:
        expected *= np.minimum((step + 1) / warm_steps, 1)
    np.testing.assert_allclose(rates(schedule, range(len(step))), expected, rtol=1e-12)


def test_cosine_has_the_shape_that_is_promised():
    config = SchedConfig(name="cosine", min_lr=1e-3, warmup_epochs=0.5)
    found = rates(build_schedule(optimizer_of(0.1), config, epochs=6, steps_per_epoch=8), range(60))
    np.testing.assert_allclose(found[:4], [0.025, 0.05, 0.075, 0.1])
    assert found[4] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(found[4:48]))
    assert found[47] == pytest.approx(1e-3)
    assert set(found[47:]) == {found[47]}, "beyond the end it stays at the bottom"


def test_cosine_is_torchs_without_warmup():
    optimizer = optimizer_of(0.1)
    theirs = CosineAnnealingLR(optimizer, T_max=19, eta_min=1e-4)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = build_schedule(optimizer_of(0.1), SchedConfig(name="cosine", min_lr=1e-4), epochs=4, steps_per_epoch=5)
    np.testing.assert_allclose(rates(ours, range(20)), expected, rtol=1e-9)


def test_constant_with_warmup():
    config = SchedConfig(name="constant", warmup_epochs=0.4)
    found = rates(build_schedule(optimizer_of(0.1), config, epochs=2, steps_per_epoch=10), range(20))
    np.testing.assert_allclose(found, [0.025, 0.05, 0.075] + [0.1] * 17)
    plain = build_schedule(optimizer_of(0.1), SchedConfig(name="constant"), epochs=2, steps_per_epoch=10)
    assert set(rates(plain, range(20))) == {0.1}


@pytest.mark.parametrize(
    ("keys", "theirs"),
    [
        ({"name": "step", "decay_epochs": 2.0, "factor": 0.5}, lambda o: StepLR(o, 10, 0.5)),
        ({"name": "step", "decay_epochs": 0.6}, lambda o: StepLR(o, 3, 0.1)),
        ({"name": "multistep", "milestones": (1.0, 2.4, 3.0), "factor": 0.3}, lambda o: MultiStepLR(o, [5, 12, 15], 0.3)),
        ({"name": "poly", "power": 2.0, "min_lr": 0.0}, lambda o: PolynomialLR(o, 19, 2.0)),
        ({"name": "poly", "min_lr": 0.0}, lambda o: PolynomialLR(o, 19, 1.0)),
    ],
)
def test_step_multistep_and_poly_are_torchs(keys, theirs):
    optimizer = optimizer_of(0.1)
    scheduler, expected = theirs(optimizer), []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = build_schedule(optimizer_of(0.1), SchedConfig(**keys), epochs=4, steps_per_epoch=5)
    np.testing.assert_allclose(rates(ours, range(20)), expected, rtol=1e-9)


def test_poly_ends_at_its_lowest_rate_and_stays_there():
    config = SchedConfig(name="poly", power=0.9, min_lr=1e-3, warmup_epochs=1.0)
    found = rates(build_schedule(optimizer_of(0.1), config, epochs=3, steps_per_epoch=4), range(16))
    np.testing.assert_allclose(found[:5], [0.025, 0.05, 0.075, 0.1, 0.1])
    np.testing.assert_allclose(found[5:12], 1e-3 + (0.1 - 1e-3) * (1 - np.arange(1, 8) / 7) ** 0.9)
    assert found[11:] == [pytest.approx(1e-3)] * 5


@pytest.mark.parametrize("name", ["cosine", "constant", "poly", "step", "multistep"])
def test_step_schedules_need_no_history(name):
    config = SchedConfig(name=name, warmup_epochs=1.0, milestones=(2.0,), decay_epochs=1.5)
    whole = rates(build_schedule(optimizer_of(), config, epochs=4, steps_per_epoch=6), range(24))
    optimizer = optimizer_of()
    optimizer.load_state_dict(
        {**optimizer.state_dict(), "param_groups": [{**g, "lr": 0.007} for g in optimizer.state_dict()["param_groups"]]}
    )
    resumed = build_schedule(optimizer, config, epochs=4, steps_per_epoch=6)
    assert resumed.state_dict() == {}
    resumed.load_state_dict({})
    assert rates(resumed, range(11, 24)) == whole[11:]
    resumed.after_epoch(99.0)
    assert resumed.lr == whole[-1], "validation loss is the plateau's business alone"


def test_every_group_gets_the_rate():
    optimizer = optimizer_of(groups=3)
    build_schedule(optimizer, SchedConfig(name="cosine"), epochs=2, steps_per_epoch=3).before_step(2)
    assert len({group["lr"] for group in optimizer.param_groups}) == 1
    assert optimizer.param_groups[2]["lr"] < 0.1


LOSSES = [2.0, 1.5, 1.4, 1.41, 1.42, 1.43, 1.44, 1.39, 1.4, math.nan, 1.4, 1.3899, 1.5, 1.3, 1.31, 1.32, 1.33, 1.34, 1.35, 1.36, 1.37, 1.38]


def plateau(lr: float = 1e-2, **keys) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = optimizer_of(lr)
    return optimizer, build_schedule(optimizer, SchedConfig(name="plateau", **keys), epochs=50, steps_per_epoch=3)


@pytest.mark.parametrize(("factor", "patience", "min_lr"), [(0.1, 3, 1e-6), (0.5, 1, 4e-3), (0.1, 0, 1e-6), (0.1, 2, 0.0)])
def test_plateau_is_torchs(factor, patience, min_lr):
    hand = optimizer_of(1e-2)
    theirs = ReduceLROnPlateau(hand, factor=factor, patience=patience, min_lr=min_lr)
    optimizer, ours = plateau(factor=factor, patience=patience, min_lr=min_lr)
    for step, loss in enumerate(LOSSES):
        ours.before_step(step)
        hand.step()
        theirs.step(loss)
        ours.after_epoch(loss)
        assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in hand.param_groups]
    assert ours.lr < 1e-2


def test_plateau_cuts_after_patience_is_used_up():
    _, schedule = plateau(lr=1e-4, patience=3)
    seen = []
    for loss in [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]:
        schedule.after_epoch(loss)
        seen.append(schedule.lr)
    np.testing.assert_allclose(seen, [1e-4] * 4 + [1e-5] * 3)


@pytest.mark.parametrize("cut", range(len(LOSSES)))
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_plateau_resumes_at_any_epoch(cut, optimizer_first):
    _, whole = plateau(patience=2)
    expected = []
    for loss in LOSSES:
        whole.after_epoch(loss)
        expected.append(whole.lr)
    optimizer, first = plateau(patience=2)
    for loss in LOSSES[:cut]:
        first.after_epoch(loss)
    buffer = io.BytesIO()
    torch.save({"schedule": first.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    optimizer, second = plateau(patience=2)
    if optimizer_first:
        optimizer.load_state_dict(saved["optimizer"])
        second.load_state_dict(saved["schedule"])
    else:
        second.load_state_dict(saved["schedule"])
        optimizer.load_state_dict(saved["optimizer"])
    found = []
    for loss in LOSSES[cut:]:
        second.after_epoch(loss)
        found.append(second.lr)
    assert found == expected[cut:]


def test_plateau_state_carries_the_rate_itself():
    _, first = plateau(patience=0)
    first.after_epoch(1.0)
    first.after_epoch(2.0)
    _, second = plateau(patience=0)
    second.load_state_dict(first.state_dict())
    assert second.lr == first.lr == pytest.approx(1e-3)


def test_plateau_state_is_plain():
    _, schedule = plateau()
    schedule.after_epoch(np.float64(1.25))  # type: ignore[arg-type]
    flat = [item for value in schedule.state_dict().values() for item in (value if isinstance(value, list) else [value])]
    assert {type(item) for item in flat} <= {int, float, str, bool, type(None)}
    before = schedule.state_dict()
    schedule.after_epoch(9.0)
    assert before["num_bad_epochs"] == 0, "a saved state does not change as training goes on"


@pytest.mark.parametrize(
    "shapes",
    [
        [(256, 64, 3, 3), (256,), (100, 512), (65537,), (2**17,)],
        [(3, 5), (1,), ()],
        [(300, 257)],  # not to be divided by the number of parts
        [],
    ],
)
def test_the_norm_of_all_gradients_is_numpys(shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(shape) for shape in shapes]
    gradients += [tensor.to(memory_format=torch.channels_last) for tensor in gradients if tensor.ndim == 4]
    gradients += [torch.randn(600, 300).t() for _ in shapes]
    exact = np.linalg.norm(np.concatenate([np.zeros(1), *(gradient.double().numpy().ravel() for gradient in gradients)]))
    assert total_norm(gradients).item() == pytest.approx(exact, rel=1e-5)
    assert total_norm(gradients).shape == ()


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("size", [4, 2**17])
def test_the_norm_of_gradients_that_are_not_finite_is_not(size: int, value: str) -> None:
    gradient = torch.zeros(size)
    gradient[size // 2] = float(value)
    assert not total_norm([torch.ones(3), gradient]).isfinite()
