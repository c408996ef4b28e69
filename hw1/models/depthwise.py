"""Depthwise convolutions in bf16 on the CPU, with those gradients in float32 that oneDNN computes slowly in bf16.

The gradient of the input with a stride takes many times as long in bf16 as in float32, that of the weights of large kernels a few times:
with an EfficientNet more than half of a step. Measurements: benchmarks/NOTES.md, `python -m benchmarks.cpu_kernels`.
"""

from typing import Any, cast

import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from hw1.models.conv_matmul import compute_dtype

SLOW_KERNEL = 16
"""Kernel positions from which on the gradient of the weights is slow in bf16: those of 3 x 3 are not, those of 5 x 5 are."""


def use_fast_depthwise(model: nn.Module) -> None:
    """Turn the model's depthwise convolutions with float32 weights on the CPU into ones with a faster backward pass in bf16, in place.

    Parameters and state dict do not change; gradients agree within bf16's rounding, and outputs are the same.
    """
    for module in model.modules():
        if (kind := KINDS.get(type(module))) and _is_supported(module):
            module.__class__ = kind


def _is_supported(conv: nn.Module) -> bool:
    assert isinstance(conv, nn.Conv2d)
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    is_zero_padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return is_depthwise and is_zero_padded and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"


class _DepthwiseConv(torch.autograd.Function):
    """Convolve x [B, C, H, W] with weight [C, 1, K, L], both bfloat16; `stride`, `padding` and `dilation` are lists of two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding, dilation)
        return torch.conv2d(x, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (x, weight), (dy,) = ctx.saved_tensors, gradients
        stride, padding, dilation = ctx.geometry
        needs_dx, needs_dw, *_ = ctx.needs_input_grad
        in_float32 = (max(stride) > 1, weight[0].numel() >= SLOW_KERNEL)
        found: list[Tensor | None] = [None, None]
        for is_float32 in set(in_float32):
            mask = [needs_dx and in_float32[0] == is_float32, needs_dw and in_float32[1] == is_float32, False]
            if any(mask):
                operands = [tensor.float() for tensor in (dy, x, weight)] if is_float32 else [dy, x, weight]
                geometry = (stride, padding, dilation, False, [0, 0], len(weight))
                results = torch.ops.aten.convolution_backward(*operands, None, *geometry, mask)
                found = [new.to(x.dtype) if wanted else old for new, old, wanted in zip(results, found, mask, strict=False)]
        return found[0], found[1], None, None, None


def _is_slow_in_torch(input: Tensor) -> bool:
    return input.device.type == "cpu" and torch.is_grad_enabled() and compute_dtype(input) is torch.bfloat16


def _convolve(conv: nn.Conv2d, input: Tensor, padding: list[int]) -> Tensor:
    x, weight = input.to(torch.bfloat16), conv.weight.to(torch.bfloat16)
    output: Tensor = _DepthwiseConv.apply(x, weight, list(conv.stride), padding, list(conv.dilation))
    return output if conv.bias is None else output + conv.bias.to(torch.bfloat16).view(-1, 1, 1)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise `torch.nn.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, C, H', W']."""
        if not _is_slow_in_torch(input):
            return super().forward(input)
        return _convolve(self, input, [int(each) for each in self.padding])


class DepthwiseConv2dSame(Conv2dSame):
    """A depthwise convolution of timm's with TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, C, H', W']."""
        if not _is_slow_in_torch(x):
            return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        padded = pad_same(x, list(self.weight.shape[-2:]), list(self.stride), list(self.dilation))
        return _convolve(self, padded, [0, 0])


KINDS: dict[type[nn.Module], type[nn.Conv2d]] = {nn.Conv2d: DepthwiseConv2d, Conv2dSame: DepthwiseConv2dSame}
