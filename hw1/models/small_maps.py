"""Convolutions over feature maps of few pixels, trained on a CPU: their weights' gradient as matrix products.

oneDNN's kernel for that gradient is slow where a map is only a few pixels wide (layer4 of a ResNet at 64 pixels: eight times slower
than this). Everywhere else, and for everything else, torch's own convolution is used.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_POSITIONS = 49
"""Largest height x width of a map for which the products are faster (benchmarks/NOTES.md)."""


def use_small_map_gradients(model: nn.Module) -> None:
    """Lets the model's ungrouped, zero-padded convolutions of more than one tap compute this gradient so, where it pays.

    Parameters, state dict and outputs stay what they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = SmallMapConv2d


def _fits(conv: nn.Conv2d) -> bool:
    is_plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return is_plain and conv.kernel_size != (1, 1) and conv.weight.dtype == torch.float32


class SmallMapConv2d(nn.Conv2d):
    """torch's, [B, C, H, W] to [B, D, H', W'], but for how the gradient of its weights is computed."""

    def forward(self, input: Tensor) -> Tensor:
        padding = cast("tuple[int, int]", self.padding)
        height, width = (
            (size + 2 * padding[axis] - self.kernel_size[axis]) // self.stride[axis] + 1 for axis, size in enumerate(input.shape[-2:])
        )
        is_worth_it = height * width <= MAX_POSITIONS and self.weight.requires_grad and torch.is_grad_enabled()
        if not is_worth_it or input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output = _SmallMapConvolution.apply(input, self.weight, self.stride, self.padding)
        return output if self.bias is None else output + self.bias.view(-1, 1, 1)


class _SmallMapConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        (dy,) = gradients
        dx = None
        if ctx.needs_input_grad[0]:
            size, no_output_padding = list(ctx.padding), [0, 0]
            dx = torch.ops.aten.convolution_backward(
                dy, x, weight, None, list(ctx.stride), size, [1, 1], False, no_output_padding, 1, [True, False, False]
            )[0]
        return dx, _weight_gradient(dy, x, weight.shape, ctx.stride, ctx.padding), None, None


def _weight_gradient(dy: Tensor, x: Tensor, shape: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """dL/dW [D, C, K, L] in NHWC memory order: of each tap the product of dy and x over the positions where it meets a pixel."""
    d, c, num_rows, num_columns = shape
    x, dy = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
    gradient = dy.new_zeros(d, num_rows, num_columns, c)
    for k in range(num_rows):
        rows, x_rows = _meeting(k, dy.shape[1], x.shape[1], stride[0], padding[0])
        for m in range(num_columns):
            columns, x_columns = _meeting(m, dy.shape[2], x.shape[2], stride[1], padding[1])
            outputs, inputs = dy[:, rows, columns].reshape(-1, d), x[:, x_rows, x_columns].reshape(-1, c)
            if len(outputs):
                torch.mm(outputs.t(), inputs, out=gradient[:, k, m])
    return gradient.permute(0, 3, 1, 2)


def _meeting(tap: int, num_out: int, num_in: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Along one axis: the outputs whose tap lies within the input, and the inputs that it meets."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + tap - padding
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)
