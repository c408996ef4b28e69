"""A model that takes images as they are decoded and normalises them itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R 601)."""


def to_grey(images: Tensor) -> Tensor:
    """Map RGB images, float [B, 3, H, W], to grey ones, [B, 1, H, W]."""
    return (images * torch.tensor(GREY, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


class WithPreprocess(nn.Module):
    """Normalise RGB images, then apply the model.

    The arithmetic equals the loader's to the bit: (x / 255 - mean) / std in FP32.

    Args:
        model: Maps normalised images, float32 [B, 3, H, W], to logits [B, C]; or grey ones, [B, 1, H, W].
        mean: Per channel, of values 0-1; a single one for grey.
        std: Per channel, of values 0-1.
        channels_last: Give the model images in NHWC memory order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = True) -> None:
        super().__init__()
        self.model = model
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """Map images, uint8 [B, H, W, 3], to normalised ones, float32 [B, 3, H, W] or [B, 1, H, W]."""
        images = images.permute(0, 3, 1, 2)
        if not self.channels_last:
            images = images.contiguous()
        images = images.div(255.0)
        if self.mean.shape[1] == 1:
            images = to_grey(images)
        return images.sub(self.mean).div(self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, uint8 [B, H, W, 3], to logits [B, C]."""
        logits: Tensor = self.model(self.normalise(images))
        return logits
