"""Do two loops compute the same? The loss of a model on one batch, free of everything that is drawn at random."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from hw1.data.loader.base import Batch
from hw1.runtime.device import Autocast

FP32_TOLERANCE = 1e-3
LOW_PRECISION_TOLERANCE = 2e-2
"""Relative difference of two losses of one model and batch: in another order of summation, and with bf16 on a side."""


def first_loss(model: nn.Module, batch: Batch, autocast: Autocast) -> float:
    """Cross-entropy in the mode that the model is in; statistics of BatchNorm are left as they were."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), without_dropout(model):
        with autocast():
            logits = model(batch.image)
        loss = F.cross_entropy(logits.float(), batch.label)
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return float(loss)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Dropout passes everything inside: modules of it, and timm's `drop_rate` before the classifier."""
    modules = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    rate = getattr(model, "drop_rate", None)
    for module, _ in modules:
        module.p = 0.0
    if rate is not None:
        model.drop_rate = 0.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, p in modules:
            module.p = p
        if rate is not None:
            model.drop_rate = rate


def difference(losses: dict[str, float], base: str) -> dict[str, float]:
    """Relative difference of each loss to that of `base`."""
    return {key: abs(loss - losses[base]) / abs(losses[base]) for key, loss in losses.items()}
