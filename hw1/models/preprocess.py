"""Normalisation and model in one, for those who hand over images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WithPreprocess(nn.Module):
    """RGB images, uint8 [B, S, S, 3], to the model's logits [B, C].

    The arithmetic is the loader's, to the bit: (x / 255 - mean) / std in FP32, in NHWC memory order unless `channels_last` is false.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = True) -> None:
        super().__init__()
        self.model = model
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalise(self, pixels: Tensor) -> Tensor:
        image = pixels.permute(0, 3, 1, 2)
        if not self.channels_last:
            image = image.contiguous()
        return image.div(255.0).sub(self.mean).div(self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(self.normalise(pixels))
