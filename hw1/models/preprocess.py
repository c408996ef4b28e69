"""A model that takes images as they are decoded and normalises them itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WithPreprocess(nn.Module):
    """Normalise RGB images, then apply the model.

    The arithmetic equals the loader's to the bit: (x / 255 - mean) / std in FP32.

    Args:
        model: Maps normalised images, float32 [B, 3, H, W], to logits [B, C].
        mean: Per channel, of values 0-1.
        std: Per channel, of values 0-1.
        channels_last: Give the model images in NHWC memory order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = True) -> None:
        super().__init__()
        self.model = model
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """Map images, uint8 [B, H, W, 3], to normalised ones, float32 [B, 3, H, W]."""
        images = images.permute(0, 3, 1, 2)
        if not self.channels_last:
            images = images.contiguous()
        return images.div(255.0).sub(self.mean).div(self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, uint8 [B, H, W, 3], to logits [B, C]."""
        logits: Tensor = self.model(self.normalise(images))
        return logits
