"""Compute Grad-CAM, and the gates of a model's CBAMs."""

from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.errors import UserError
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


class GradCam(NamedTuple):
    """Grad-CAM of B images.

    Attributes:
        maps: float32 [B, S, S] in 0-1, upsampled bilinearly; the largest value of an image is 1, or all are 0 where there is no evidence.
        size: Height and width of the feature map that they were computed on.
    """

    maps: NDArray[np.float32]
    size: tuple[int, int]


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor) -> GradCam:
    """Compute Grad-CAM of the last feature map, CBAM included (Selvaraju et al., ICCV 2017, section 3).

    Args:
        model: The model; it is put into eval mode.
        images: Normalised images, float [B, 3, S, S].
        classes: The class of each image whose evidence is located, int64 [B].

    Raises:
        UserError: The model's last features are no map, as those of a vision transformer.
    """
    from captum.attr import LayerAttribution, LayerGradCam  # seconds to import

    model.eval()
    heat = LayerGradCam(model, last_stage(model)).attribute(images, target=classes, relu_attributions=True)
    if not isinstance(heat, Tensor) or heat.ndim != 4:
        raise UserError("model.name: Grad-CAM needs a feature map, which the last stage of this model does not have")
    size = (heat.shape[2], heat.shape[3])
    heat = cast(Tensor, LayerAttribution.interpolate(heat.detach().float(), images.shape[-2:], "bilinear"))[:, 0].clamp(min=0)
    return GradCam((heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)).cpu().numpy(), size)


def last_stage(model: nn.Module) -> nn.Module:
    """Return the module that outputs the last feature map, by timm's `feature_info`.

    Raises:
        UserError: The model has no `feature_info`.
    """
    info = getattr(model, "feature_info", None)
    if not info:
        raise UserError("model.name: this model does not name its feature maps, so there is nothing to attend to")
    return model.get_submodule(info[-1]["module"])


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
