"""Convolutions over feature maps of few pixels, on a CPU: as matrix products, tap by tap.

oneDNN's kernels are made for larger maps. In layer4 of a ResNet at 64 pixels, 2 x 2 positions, its weights' gradient takes eight times as
long as these products, the rest twice as long. Everywhere else torch's own convolution is used.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

MAX_POSITIONS = 49
"""Largest height x width of an output for which the products give the weights' gradient faster (benchmarks/NOTES.md)."""
MAX_POSITIONS_ALL = 9
"""The same for output and input's gradient; without autograd there is only the output."""
MIN_BATCH = 16
"""Without autograd: images from which on the products are faster; of few, torch's one call is."""


def use_small_map_products(model: nn.Module) -> None:
    """Lets the model's ungrouped, zero-padded convolutions of more than one tap that are on the CPU compute so, where it pays.

    Parameters and state dict stay what they are; outputs and gradients agree within rounding.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = SmallMapConv2d


def _fits(conv: nn.Conv2d) -> bool:
    is_plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return is_plain and conv.kernel_size != (1, 1) and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"


class SmallMapConv2d(nn.Conv2d):
    """torch's, [B, C, H, W] to [B, D, H', W'], but for how it computes where it is trained, and without autograd."""

    def forward(self, input: Tensor) -> Tensor:
        padding = cast("tuple[int, int]", self.padding)
        height, width = (
            (size + 2 * padding[axis] - self.kernel_size[axis]) // self.stride[axis] + 1 for axis, size in enumerate(input.shape[-2:])
        )
        if torch.is_grad_enabled():
            most = MAX_POSITIONS if self.weight.requires_grad else 0
        else:
            most = MAX_POSITIONS_ALL if len(input) >= MIN_BATCH else 0
        if height * width > most or input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output = _Products.apply(input, self.weight, self.stride, padding)
        return output if self.bias is None else output + self.bias.view(-1, 1, 1)


class _Products(torch.autograd.Function):
    """x [B, C, H, W] and weight [D, C, K, L] to [B, D, H', W'], in NHWC memory order where the products are used."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        height, width = ((x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1))
        if height * width > MAX_POSITIONS_ALL:
            return torch.conv2d(x, weight, None, stride, padding)
        output = x.new_zeros(len(x), height, width, len(weight))
        _add_products(x, weight.transpose(0, 1), output, _taps((height, width), x.shape[2:], weight.shape[2:], stride, padding))
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (x, weight), (dy,) = ctx.saved_tensors, gradients
        taps = list(_taps(dy.shape[2:], x.shape[2:], weight.shape[2:], ctx.stride, ctx.padding))
        dx = None
        if ctx.needs_input_grad[0] and dy.shape[2] * dy.shape[3] <= MAX_POSITIONS_ALL:
            dx = x.new_zeros(len(x), *x.shape[2:], x.shape[1])
            _add_products(dy, weight, dx, (Tap(tap.place, tap.inputs, tap.outputs) for tap in taps))
            dx = dx.permute(0, 3, 1, 2)
        elif ctx.needs_input_grad[0]:
            stride, padding, mask = list(ctx.stride), list(ctx.padding), [True, False, False]
            dx = torch.ops.aten.convolution_backward(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask)[0]
        return dx, _weight_gradient(dy, x, weight.shape, taps), None, None


class Tap(NamedTuple):
    """One weight of the kernel: its place (row, column), and the rows and columns of output and input where it meets a pixel."""

    place: tuple[int, int]
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def _add_products(source: Tensor, weight: Tensor, target: Tensor, taps: Iterator[Tap]) -> None:
    """Adds to target [B, H', W', D], at each tap's outputs, source [B, C, H, W] at its inputs times weight [C, D, K, L] at its place."""
    source, weight = source.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)
    for place, (rows, columns), (source_rows, source_columns) in taps:
        part = target[:, rows, columns]
        part += (source[:, source_rows, source_columns].reshape(-1, source.shape[3]) @ weight[place]).view(part.shape)


def _weight_gradient(dy: Tensor, x: Tensor, shape: torch.Size, taps: list[Tap]) -> Tensor:
    """dL/dW [D, C, K, L] in NHWC memory order: of each tap the product of dy and x over the positions where it meets a pixel."""
    d, c, *kernel = shape
    x, dy = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
    gradient = dy.new_zeros(d, *kernel, c)
    for (row, column), (rows, columns), (x_rows, x_columns) in taps:
        torch.mm(dy[:, rows, columns].reshape(-1, d).t(), x[:, x_rows, x_columns].reshape(-1, c), out=gradient[:, row, column])
    return gradient.permute(0, 3, 1, 2)


def _taps(
    num_out: tuple[int, ...], num_in: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> Iterator[Tap]:
    """The taps that meet a pixel at all."""
    rows, columns = ([_meeting(tap, num_out[i], num_in[i], stride[i], padding[i]) for tap in range(kernel[i])] for i in (0, 1))
    for k, row in enumerate(rows):
        for m, column in enumerate(columns):
            if row and column:
                yield Tap((k, m), (row[0], column[0]), (row[1], column[1]))


def _meeting(tap: int, num_out: int, num_in: int, stride: int, padding: int) -> tuple[slice, slice] | None:
    """Along one axis: the outputs whose tap lies within the input, and the inputs that it meets there; None where there are none."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    return (slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)) if last >= first else None
