"""CBAM, the convolutional block attention module (Woo et al., ECCV 2018, section 3; arXiv 1807.06521).

Its layers have no bias and no normalisation. `timm.layers.CbamModule` differs: it has a BatchNorm in its spatial branch.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CbamInit = Literal["paper", "identity"]


class ChannelAttention(nn.Module):
    """Compute one gate per channel: Mc(x) = sigmoid(MLP(avgpool(x)) + MLP(maxpool(x))); both branches share the MLP.

    The MLP is Linear(C, max(1, C // reduction)), ReLU, Linear back to C.

    Args:
        channels: C.
        reduction: What C is divided by in the hidden layer, at least 1.
        device: Where the weights are made.
        dtype: Type of the weights.

    Raises:
        ValueError: `reduction` is below 1.
    """

    def __init__(self, channels: int, reduction: int = 16, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=False, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, channels, bias=False, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def mlp(self, pooled: Tensor) -> Tensor:
        """Map pooled features [B, C] to logits [B, C]."""
        logits: Tensor = self.fc2(F.relu(self.fc1(pooled)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to gates [B, C, 1, 1] in (0, 1)."""
        # amax and not adaptive_max_pool2d, whose backward pass is not deterministic on CUDA
        logits = self.mlp(torch.cat([x.mean((2, 3)), x.amax((2, 3))]))  # [2B, C]: of both in one product
        gate = torch.sigmoid(logits.reshape(2, -1, logits.shape[1]).sum(0))
        return gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """Compute one gate per position: Ms(x) = sigmoid(conv([mean over channels; max over channels])), zero padding.

    Args:
        kernel_size: Height and width of the kernel in pixels of the feature map; odd.
        device: Where the weights are made.
        dtype: Type of the weights.

    Raises:
        ValueError: `kernel_size` is even or below 1.
    """

    def __init__(self, kernel_size: int = 7, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        self.conv.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to gates [B, 1, H, W] in (0, 1)."""
        return torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Cbam(nn.Module):
    """Apply channel attention, then spatial attention: x1 = Mc(x) * x, y = Ms(x1) * x1.

    With `init="identity"` features pass unchanged at the start. Without a bias a sigmoid cannot start at 1 and still learn, so the last
    layer of each branch starts at zero (both sigmoids are exactly 0.5) and each gate is `2 * sigmoid`: exactly 1 at the start, free to
    move within (0, 2). Gradients reach the two last layers in the first step and `channel.fc1`, which lies behind a zero layer, in the
    second. The 2 is the buffer `gate_scale`, part of the state dict: weights saved from one kind of CBAM do not load silently into the
    other, where they would mean a different function.

    Args:
        channels: Channels of the features.
        reduction: See `ChannelAttention`.
        kernel_size: See `SpatialAttention`.
        init: `paper`: PyTorch's random weights, as in the authors' code; both gates start around sigmoid(0) = 0.5, so pretrained
            features come out at about a quarter of their size. `identity`: see above.
        device: Where the weights are made.
        dtype: Type of the weights.

    Raises:
        ValueError: `reduction` is below 1, `kernel_size` is even or `init` is unknown.
    """

    gate_scale: Tensor | None

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        init: CbamInit = "paper",
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if init not in ("paper", "identity"):
            raise ValueError(f"init must be 'paper' or 'identity', got {init!r}")
        self.channel = ChannelAttention(channels, reduction, device=device, dtype=dtype)
        self.spatial = SpatialAttention(kernel_size, device=device, dtype=dtype)
        self.register_buffer("gate_scale", torch.tensor(2.0, device=device, dtype=dtype) if init == "identity" else None)
        self._start_as_identity()

    def reset_parameters(self) -> None:
        """Set everything to its start, as after `to_empty()`: weights drawn anew, with `init="identity"` the last ones zero."""
        self.channel.reset_parameters()
        self.spatial.reset_parameters()
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        if self.gate_scale is not None:
            nn.init.constant_(self.gate_scale, 2.0)
            nn.init.zeros_(self.channel.fc2.weight)
            nn.init.zeros_(self.spatial.conv.weight)

    def _scaled(self, gate: Tensor) -> Tensor:
        scale = self.gate_scale  # a local, which TorchScript knows to be a tensor after the test
        return gate if scale is None else gate * scale

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors that `forward` multiplies x [B, C, H, W] by: of channels [B, C, 1, 1], of positions [B, 1, H, W]."""
        channel = self._scaled(self.channel(x))
        return channel, self._scaled(self.spatial(x * channel))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to features of the same shape."""
        x = x * self._scaled(self.channel(x))
        return x * self._scaled(self.spatial(x))
