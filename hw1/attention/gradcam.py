"""Compute Grad-CAM."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.errors import UserError


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor) -> NDArray[np.float32]:
    """Compute Grad-CAM of the last feature map, CBAM included (Selvaraju et al., ICCV 2017, section 3).

    Args:
        model: The model; it is put into eval mode.
        images: Normalised images, float [B, 3, S, S].
        classes: The class of each image whose evidence is located, int64 [B].

    Returns:
        float32 [B, S, S] in 0-1, upsampled bilinearly; the largest value of an image is 1, or all are 0 where there is no evidence.

    Raises:
        UserError: The model's last features are no map, as those of a vision transformer.
    """
    from captum.attr import LayerAttribution, LayerGradCam  # seconds to import

    model.eval()
    heat = LayerGradCam(model, last_stage(model)).attribute(images, target=classes, relu_attributions=True)
    if not isinstance(heat, Tensor) or heat.ndim != 4:
        raise UserError("model.name: Grad-CAM needs a feature map, which the last stage of this model does not have")
    heat = cast(Tensor, LayerAttribution.interpolate(heat.detach().float(), images.shape[-2:], "bilinear"))[:, 0].clamp(min=0)
    return (heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)).cpu().numpy()


def last_stage(model: nn.Module) -> nn.Module:
    """Return the module that outputs the last feature map, by timm's `feature_info`.

    Raises:
        UserError: The model has no `feature_info`.
    """
    info = getattr(model, "feature_info", None)
    if not info:
        raise UserError("model.name: this model does not name its feature maps, so there is nothing to attend to")
    return model.get_submodule(info[-1]["module"])
