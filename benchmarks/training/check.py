"""Do our variants train as plain FP32 PyTorch does? Gradients of every parameter, loss curves, and the same bits twice."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import ours
from benchmarks.training.case import Case, make_batches
from benchmarks.training.curves import compare_curves
from benchmarks.training.device import open_device, prepare_process, release_memory, use_defaults
from benchmarks.training.measure import freezing_of
from benchmarks.training.ours import OurLoop, recipe_of
from benchmarks.training.peers import build_frozen_model
from hw1.config.recipe import TrainConfig
from hw1.data.loader.base import Batch
from hw1.runtime.device import amp_dtype, autocast_of, set_determinism
from hw1.training.cuda_graphs import EAGER_STEPS

NOTHING_DRAWN = ("mixup.prob=0.0", "model.drop_layer3=0.0", "model.drop_rate=0.0")
LR = 100.0
PLAIN_DESCENT = ("optim.name=sgd", f"optim.lr={LR}", "optim.betas=[0.0, 0.0]", "optim.weight_decay=0.0", "sched.name=constant")
"""An optimizer step is then -LR times the gradient; the rate is so high that rounding of the weights does not hide the gradient."""
FLOOR_OVERALL, FLOOR_WORST = 1e-3, 1e-2
"""Relative errors that FP32 may have: of the whole gradient, of one parameter's."""
REPEATS = EAGER_STEPS + 2  # steps from one state: the last come from a recorded CUDA graph, where there is one
Gradients = dict[str, Tensor]
Block = dict[str, Any]


def check_case(
    case: Case, keys: Sequence[str], device: torch.device, steps: int, blocks: list[Block], save: Callable[[], None], *,
    until: float = float("inf"),
) -> None:  # fmt: skip
    """Appends to `blocks` what was found for one case, and saves after every finding.

    What has not begun at `until` (`time.perf_counter`; gradients at half of the time until then) is left out; `left_out` names it.
    """
    start = time.perf_counter()
    reasons = {key: ours.why_not(key, device) for key in keys}
    left_out = {key: reason for key, reason in reasons.items() if reason}
    block: Block = {"case": case.describe(), "left_out": left_out, "gradients": {}, "curves": {}, "same_bits": {}}
    blocks.append(block)
    keys = [key for key in keys if key not in left_out]
    use_defaults()
    late = check_gradients(case, keys, device, block["gradients"], save, until=(start + until) / 2)
    left_out |= dict.fromkeys(late, "no time was left")
    compare_curves(case, [key for key in keys if key not in late], device, steps, block["curves"], save, until=until)
    for key in [key for key in ("faithful/nhwc", "fast/nhwc") if key in keys]:
        if time.perf_counter() < until:
            block["same_bits"][key] = same_bits_apart(case, key) if device.type == "cuda" else same_bits(case, key, device.type)
        save()


def verdict(blocks: Sequence[Block]) -> list[str]:
    """What is wrong, a line each."""
    wrong = []
    for block in blocks:
        name = block["case"]["model"]
        for key, row in block["gradients"].items():
            wrong += [f"{name}: {key}: gradient of a batch of {part['images']} is off: {part}" for part in row if not part["met"]]
        for key, row in block["curves"].get("differences", {}).items():
            if not row["met"]:
                wrong.append(f"{name}: {key}: its loss curve leaves the plain one: {row}")
        wrong += [f"{name}: {key}: two deterministic runs differ" for key, same in block["same_bits"].items() if not same]
    return wrong


def check_gradients(
    case: Case, keys: Sequence[str], device: torch.device, found: Block, save: Callable[[], None], *, until: float = float("inf")
) -> list[str]:
    """Per variant one row for a whole batch and one for a smaller, odd one, as at the end of an epoch; returns those not begun by `until`.

    The reference is autograd of the plain model in FP32 and NCHW on the CPU. What rounding costs is measured on the plain model, eager, in
    NHWC on the device, under autocast where that computes in bf16: a variant may be off by three times as much, and by `FLOOR_OVERALL`
    and `FLOOR_WORST` in any case.
    """
    cpu, dtype = torch.device("cpu"), amp_dtype(TrainConfig(amp=case.amp), device)  # type: ignore[arg-type]  # `parse_case` has checked it
    sizes = sorted({case.batch, case.batch * 2 // 3 | 1}, reverse=True)
    references: dict[tuple[str, int], tuple[Gradients, Block]] = {}
    for number, key in enumerate(keys):
        if time.perf_counter() > until:
            return list(keys[number:])
        freezing = freezing_of(key)
        found[key] = rows = []
        loop = OurLoop(case, key, device, [*NOTHING_DRAWN, *PLAIN_DESCENT])
        for size in sizes:
            if (freezing, size) not in references:
                reference = plain_gradients(case, freezing, _first(case, cpu, size, False), cpu, None)
                low = plain_gradients(case, freezing, _first(case, device, size, True), device, dtype)
                references[freezing, size] = reference, errors(low, reference)
            reference, yardstick = references[freezing, size]
            batch = _first(case, device, size, loop.channels_last)
            each = [errors(gradients, reference) for gradients in step_gradients(loop, batch, REPEATS)]
            worst = max(each, key=lambda row: row["overall"])
            met = worst["overall"] <= max(FLOOR_OVERALL, 3 * yardstick["overall"])
            met = met and worst["worst"] <= max(FLOOR_WORST, 3 * yardstick["worst"]) and loop.why_not_as_asked() is None
            rows.append({"images": size, **worst, "plain": yardstick, "met": met})
            save()
        del loop
        release_memory(device)
    return []


def step_gradients(loop: OurLoop, batch: Batch, repeats: int) -> list[Gradients]:
    """The gradient that each of `repeats` steps from the same weights followed, whatever way it was computed in.

    The weights are put back in place and nothing else is touched, so that what was compiled or recorded goes on.
    """
    start = loop.training.copy_state()["model"]
    names = [name for name, parameter in loop.model.named_parameters() if parameter.requires_grad]
    found = []
    for _ in range(repeats):
        loop.begin()
        loop.step(batch)
        weights = dict(loop.model.named_parameters())
        found.append({name: (start[name] - weights[name].detach().cpu()) / LR for name in names})
        loop.model.load_state_dict(start)
        loop.training.guard.snapshot()
    return found


def plain_gradients(case: Case, freezing: str, batch: Batch, device: torch.device, dtype: torch.dtype | None) -> Gradients:
    """Autograd of the plain model, eager, in the memory order of the batch."""
    recipe = recipe_of(case, f"{freezing}/nchw", NOTHING_DRAWN)
    is_nhwc = not batch.image.is_contiguous()
    model: nn.Module = build_frozen_model(recipe, case.num_classes, device, channels_last=is_nhwc)
    with autocast_of(device, dtype)():
        logits = model(batch.image)
    F.cross_entropy(logits.float(), batch.label).backward()
    return {name: parameter.grad.cpu() for name, parameter in model.named_parameters() if parameter.grad is not None}


def errors(gradients: Gradients, reference: Gradients) -> Block:
    """Relative errors, in the L2 norm: of the whole gradient, and of the parameter that is worst off."""
    assert gradients.keys() == reference.keys(), "other parameters are trained"
    apart = {name: float((gradients[name] - reference[name]).norm()) for name in reference}
    norms = {name: float(reference[name].norm()) for name in reference}
    relative = {name: apart[name] / max(norms[name], 1e-12) for name in reference}
    worst = max(relative, key=lambda name: relative[name])
    overall = sum(value**2 for value in apart.values()) ** 0.5 / sum(value**2 for value in norms.values()) ** 0.5
    return {"overall": float(f"{overall:.3g}"), "worst": float(f"{relative[worst]:.3g}"), "worst_parameter": worst, "count": len(reference)}


def same_bits(case: Case, key: str, device_name: str, steps: int = 5) -> bool:
    """Whether two trainings with `train.deterministic` end in the same bits."""
    device = open_device(device_name)
    set_determinism(True)
    states = []
    for _ in range(2):
        loop = OurLoop(case, key, device, ["train.deterministic=true"])
        loop.begin()
        batches = make_batches(case, device, channels_last=loop.channels_last)
        for number in range(steps):
            loop.step(batches[number % len(batches)])
        states.append(loop.training.copy_state()["model"])
        del loop
    use_defaults()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def same_bits_apart(case: Case, key: str) -> bool:
    """`same_bits` on CUDA, in a process of its own: cuBLAS must be told before it is first used."""
    with multiprocessing.get_context("spawn").Pool(1, initializer=prepare_process) as pool:
        return pool.apply(same_bits, (case, key, "cuda"))


def _first(case: Case, device: torch.device, size: int, channels_last: bool) -> Batch:
    batch = make_batches(case, device, channels_last=channels_last, num=1)[0]
    return Batch(batch.image[:size], batch.label[:size], batch.index[:size])
