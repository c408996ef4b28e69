"""Compute Grad-CAM."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hw1.errors import UserError


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

    Of a transformer it is the map of the tokens that enter its last block, normalised: of those that leave it, only the class token may
    have any say in the result.

    Args:
        model: The model; it is put into eval mode.
        images: Normalised images, float [B, 3, S, S].
        classes: The class of each image whose evidence is located, int64 [B].

    Raises:
        UserError: The model's last features are no map.
    """
    model.eval()
    features: list[Tensor] = []
    hook = map_module(model).register_forward_hook(lambda _, inputs, output: features.append(output))
    try:
        with torch.enable_grad():
            # the images ask for a gradient so that frozen layers are differentiated too
            logits = model(images.detach().requires_grad_())
    finally:
        hook.remove()
    if not features:
        raise UserError("model.name: this model does not call the module of its last feature map, so there is nothing to attend to")
    score = logits.gather(1, classes[:, None]).sum()
    [gradient] = torch.autograd.grad(score, features[-1])
    values, slopes = (_as_map(model, tensor.detach().float()) for tensor in (features[-1], gradient))
    heat = (slopes.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).clamp(min=0)
    size = (heat.shape[2], heat.shape[3])
    heat = functional.interpolate(heat, images.shape[-2:], mode="bilinear")[:, 0]
    return GradCam((heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)).cpu().numpy(), size)


def map_module(model: nn.Module) -> nn.Module:
    """Return the module whose output is looked at: that of the last feature map, by timm's `feature_info`.

    Raises:
        UserError: The model has no `feature_info`.
    """
    info = getattr(model, "feature_info", None)
    if not info:
        raise UserError("model.name: this model does not name its feature maps, so there is nothing to attend to")
    stage = model.get_submodule(info[-1]["module"])
    norm = getattr(stage, "norm1", None)
    return norm if isinstance(norm, nn.Module) and hasattr(stage, "attn") else stage


def _as_map(model: nn.Module, features: Tensor) -> Tensor:
    """Return features as [B, C, h, w]: of maps in timm's two orders, or of tokens [B, N, C], the first ones of which are no patches."""
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
    if features.ndim == 3:
        tokens = features.shape[1]
        prefix = int(getattr(model, "num_prefix_tokens", 0))
        grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
        for start in (prefix, 0):
            height, width = grid or (math.isqrt(tokens - start),) * 2
            if height * width == tokens - start:
                patches: Tensor = features[:, start:].transpose(1, 2).unflatten(2, (height, width))  # type: ignore[no-untyped-call]
                return patches
    raise UserError(f"model.name: Grad-CAM needs a map, but the last features of this model are {list(features.shape[1:])}")
