"""What a trained network looks at: Grad-CAM, and the gates of its own CBAMs."""

from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.errors import UserError
from hw1.models.cbam import Cbam


class Gates(NamedTuple):
    """The gates of one CBAM for B images: factors of its features, in (0, 1), or (0, 2) where it started as identity."""

    stage: str
    channel: NDArray[np.float32]
    """[B, C]"""
    spatial: NDArray[np.float32]
    """[B, h, w], at the resolution of the feature map."""


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor) -> NDArray[np.float32]:
    """Where the evidence for `classes` lies: float32 [B, S, S] in 0-1, each image's largest value 1 (or all 0: no evidence).

    Grad-CAM (Selvaraju et al., ICCV 2017, section 3) of the last feature map, CBAM included, enlarged bilinearly. images: float
    [B, 3, S, S], normalised; classes: int64 [B]. Raises UserError for a model whose last features are no map, as of a vision transformer.
    """
    from captum.attr import LayerAttribution, LayerGradCam  # seconds to import

    model.eval()
    heat = LayerGradCam(model, last_stage(model)).attribute(images, target=classes, relu_attributions=True)
    if not isinstance(heat, Tensor) or heat.ndim != 4:
        raise UserError("model.name: Grad-CAM needs a feature map, which the last stage of this model does not have")
    heat = cast(Tensor, LayerAttribution.interpolate(heat.detach().float(), images.shape[-2:], "bilinear"))[:, 0].clamp(min=0)
    return (heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)).cpu().numpy()


def last_stage(model: nn.Module) -> nn.Module:
    """The module that gives the last feature map, by timm's `feature_info`. Raises UserError if the model does not tell it."""
    info = getattr(model, "feature_info", None)
    if not info:
        raise UserError("model.name: this model does not name its feature maps, so there is nothing to attend to")
    return model.get_submodule(info[-1]["module"])


def cbam_gates(model: nn.Module, images: Tensor) -> list[Gates]:
    """The gates of every CBAM of the model, from the first stage on, for float images [B, 3, S, S]; an empty list without CBAM."""
    found: dict[str, Gates] = {}

    def keep(stage: str, cbam: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        channel, spatial = cast(Cbam, cbam).gates(inputs[0])
        found[stage] = Gates(stage, channel[:, :, 0, 0].float().cpu().numpy(), spatial[:, 0].float().cpu().numpy())

    cbams = {name.rpartition(".")[0]: module for name, module in model.named_modules() if isinstance(module, Cbam)}
    hooks = [module.register_forward_hook(partial(keep, stage)) for stage, module in cbams.items()]
    model.eval()
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())
