"""Convolutions for inference on the CPU with weights in the order that oneDNN computes in.

Of weights in torch's order oneDNN makes a copy in its own at every call, which of few images takes longer than the convolution itself:
with 512 channels and maps of 3 x 3, half of the time for one image. A model whose weights no longer change needs that copy once.
"""

from typing import cast

import torch
from torch import Tensor, nn

from hw1.models.conv_matmul import MatmulConv2d, compute_dtype
from hw1.models.depthwise import DepthwiseConv2d

PACK, CONVOLVE = "_reorder_convolution_weight", "_convolution_pointwise"
"""What torch.compile calls for the same purpose, in torch.ops.mkldnn."""


def use_packed_conv(model: nn.Module) -> None:
    """Turn the model's zero-padded convolutions on the CPU into `PackedConv2d`, in place, where torch has what it takes.

    Their weights must not change any more. Outputs agree within rounding.
    """
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in (PACK, CONVOLVE))):
        return
    for module in model.modules():
        if (kind := KINDS.get(type(module))) and _is_supported(module):
            module.__class__ = kind
            cast(PackedConv2d, module)._packed = {}


def _is_supported(conv: nn.Module) -> bool:
    assert isinstance(conv, nn.Conv2d)
    is_zero_padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return is_zero_padded and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"


class PackedConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` with weights that do not change, for tensors in channels_last order without gradients."""

    _packed: dict[torch.dtype, tuple[Tensor, Tensor | None]]
    """Weights in oneDNN's order, and bias, by what they compute in."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Map features [B, C, H, W] to [B, D, H', W']: all that `nn.Conv2d` computes comes here."""
        dtype = compute_dtype(input)
        is_ready = input.device.type == "cpu" and not torch.is_grad_enabled() and dtype in (torch.float32, torch.bfloat16)
        if not is_ready or not input.is_contiguous(memory_format=torch.channels_last) or input.numel() == 0:
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        geometry = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        if dtype not in self._packed:
            packed = torch.ops.mkldnn._reorder_convolution_weight(weight.detach().to(dtype), *geometry, list(input.shape))
            self._packed[dtype] = packed, None if bias is None else bias.detach().to(dtype)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(input.to(dtype), *self._packed[dtype], *geometry, "none", [], "")
        return output


class PackedMatmulConv2d(PackedConv2d, MatmulConv2d):
    """A `PackedConv2d` that computes by matrix products where these are faster."""


KINDS: dict[type[nn.Module], type[PackedConv2d]] = {
    nn.Conv2d: PackedConv2d,
    DepthwiseConv2d: PackedConv2d,
    MatmulConv2d: PackedMatmulConv2d,
}
