"""Loss curves of our variants beside that of a plain FP32 loop, on the same batches with the same Mixup."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from benchmarks.training.case import Case
from benchmarks.training.device import release_memory, use_defaults
from benchmarks.training.images import read_batches
from benchmarks.training.ours import FREEZING, OurLoop, recipe_of
from benchmarks.training.peers import build_frozen_model
from hw1.data.loader.base import Batch
from hw1.training.mixup import build_mixup

NUM_BATCHES = 16  # that the steps go through, over and over
SETTINGS = ("model.drop_layer3=0.0", "model.drop_rate=0.0", "optim.lr=1e-3", "sched.name=constant")
"""No dropout, which every device draws in its own way; a rate at which a model without weights learns something in some hundred steps."""
SMOOTHING = 10  # steps
FLOOR = 0.02
"""Mean distance of two smoothed curves, as a share of the loss at the start, that is always allowed."""
NUDGE = 1e-6


def compare_curves(
    case: Case, keys: Sequence[str], device: torch.device, steps: int, found: dict[str, Any], save: Callable[[], None], *,
    until: float = float("inf"),
) -> None:  # fmt: skip
    """Losses of `steps` steps: for each freezing the plain loop's and, as a yardstick, those of the same loop from weights that differ by
    a millionth; then each variant's. A variant may be three times the yardstick away from the plain curve, and `FLOOR` in any case.
    Variants not begun by `until` have no curve.
    """
    batches = read_batches(case, device, NUM_BATCHES, _photos())
    losses: dict[str, list[float]] = {}
    found |= {"smoothing": SMOOTHING, "losses": losses, "differences": {}}
    for freezing in FREEZING:
        mine = [key for key in keys if key.startswith(f"{freezing}/")]
        if not mine or time.perf_counter() > until:
            continue
        losses[f"plain, {freezing}"] = plain = plain_losses(case, freezing, batches, device, steps)
        losses[f"plain nudged, {freezing}"] = nudged = plain_losses(case, freezing, batches, device, steps, nudge=NUDGE)
        yardstick = distance(nudged, plain)
        for key in mine:
            if time.perf_counter() > until:
                return
            losses[key] = variant_losses(case, key, batches, device, steps)
            apart = distance(losses[key], plain)
            limit = max(FLOOR, 3 * yardstick)
            found["differences"][key] = {"mean": apart, "yardstick": yardstick, "limit": limit, "met": apart <= limit}
            save()


def plain_losses(case: Case, freezing: str, batches: Sequence[Batch], device: torch.device, steps: int, nudge: float = 0.0) -> list[float]:
    """A loop in FP32, eager, NCHW, with torch's plain AdamW."""
    use_defaults()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        return _plain_losses(case, freezing, batches, device, steps, nudge)


def _plain_losses(case: Case, freezing: str, batches: Sequence[Batch], device: torch.device, steps: int, nudge: float) -> list[float]:
    recipe = recipe_of(case, f"{freezing}/nchw", SETTINGS)
    model = build_frozen_model(recipe, case.num_classes, device, channels_last=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.mul_(1.0 + nudge)
    optim = recipe.optim
    optimizer = torch.optim.AdamW(trained, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, foreach=False)
    mixup = build_mixup(recipe.mixup, recipe.loss, case.num_classes, recipe.seed)
    losses = []
    for step in range(steps):
        batch = batches[step % len(batches)]
        images, targets = batch.image.contiguous(), F.one_hot(batch.label, case.num_classes).float()
        if mixup:
            images, targets = mixup(images, batch.label, epoch=0, step=step)
        loss = -(targets * F.log_softmax(model(images), dim=1)).sum(1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def variant_losses(case: Case, key: str, batches: Sequence[Batch], device: torch.device, steps: int) -> list[float]:
    """Of our variant, from the sums that it keeps on the device."""
    loop = OurLoop(case, key, device, SETTINGS)
    loop.begin()
    order = torch.channels_last if loop.channels_last else torch.contiguous_format
    own = [Batch(batch.image.contiguous(memory_format=order), batch.label, batch.index) for batch in batches]
    sums = [loop.training.sums.clone()]
    for step in range(steps):
        loop.step(own[step % len(own)])
        sums.append(loop.training.sums.clone())
    steps_of = torch.stack(sums).diff(dim=0).cpu()
    del loop
    release_memory(device)
    return (steps_of[:, 0] / steps_of[:, 2]).tolist()


def smooth(losses: Sequence[float]) -> NDArray[np.float64]:
    """Means of `SMOOTHING` losses in a row (of all, where there are fewer)."""
    window = min(SMOOTHING, len(losses))
    return np.convolve(losses, np.full(window, 1 / window), mode="valid")


def distance(losses: Sequence[float], plain: Sequence[float]) -> float:
    """Mean distance of the smoothed curves, as a share of the plain loss at the start."""
    return float(f"{np.abs(smooth(losses) - smooth(plain)).mean() / plain[0]:.3g}")


def _photos() -> Path | None:
    return Path(os.environ["HW1_PHOTOS"]) if os.environ.get("HW1_PHOTOS") else None
