"""Compute the gates of a model's CBAMs for images."""

from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.models.cbam import Cbam


class Gates(NamedTuple):
    """The gates of one CBAM for B images: factors of its features, in (0, 1), or (0, 2) if it was initialised as identity.

    Attributes:
        stage: The stage that the CBAM follows.
        channel: Channel gate, [B, C].
        spatial: Spatial gate, [B, h, w], at the resolution of the feature map.
    """

    stage: str
    channel: NDArray[np.float32]
    spatial: NDArray[np.float32]


def cbam_gates(model: nn.Module, images: Tensor) -> list[Gates]:
    """Compute the gates of every CBAM of a model, from the first stage on.

    Args:
        model: The model; it is put into eval mode.
        images: Normalised images, float [B, 3, S, S].

    Returns:
        The gates of each CBAM; empty for a model without CBAM.
    """
    gates: dict[str, Gates] = {}

    def record(stage: str, cbam: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        channel, spatial = cast(Cbam, cbam).gates(inputs[0])
        gates[stage] = Gates(stage, channel[:, :, 0, 0].float().cpu().numpy(), spatial[:, 0].float().cpu().numpy())

    cbams = {name.rpartition(".")[0]: module for name, module in model.named_modules() if isinstance(module, Cbam)}
    hooks = [module.register_forward_hook(partial(record, stage)) for stage, module in cbams.items()]
    model.eval()
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return list(gates.values())
