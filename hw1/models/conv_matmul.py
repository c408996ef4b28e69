"""Convolutions on a CPU as matrix products, tap by tap, where that is faster.

oneDNN's kernels are made for large maps and few channels. In layer4 of a ResNet-18 at 64 pixels, 2 x 2 positions, its weights' gradient
takes eight times as long as these products, the rest twice as long; that of 1 x 1 convolutions up to twice as long at any size. Everywhere
else torch's own convolution is used. What was measured: benchmarks/NOTES.md.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_POSITIONS = 49
"""Largest height x width of an output for which the products give the weights' gradient faster, and all of a 1 x 1 convolution."""
MAX_POSITIONS_ALL = 9
"""The same for output and input's gradient of more than one tap."""
MIN_WORK, MIN_WORK_ALL = 2**18, 2**20
"""More than one tap: images x channels in x channels out, from which on a product is worth a call for every tap; of MAX_POSITIONS(_ALL)."""


class UseMatmul(NamedTuple):
    """What is computed as matrix products: output, input's gradient, weights' gradient."""

    output: bool
    dx: bool
    dw: bool


def choose_matmul(batch: int, positions: int, weight: torch.Size) -> UseMatmul:
    """For `batch` images, outputs of `positions` = height x width, and a weight [D, C, K, L]."""
    work = batch * weight[0] * weight[1]
    if weight[2:] == (1, 1):
        is_small = positions <= MAX_POSITIONS
        return UseMatmul(is_small, is_small, True)
    is_small = positions <= MAX_POSITIONS_ALL and work > MIN_WORK_ALL
    return UseMatmul(is_small, is_small, positions <= MAX_POSITIONS and work >= MIN_WORK)


def use_conv_matmul(model: nn.Module) -> None:
    """Lets the model's ungrouped, zero-padded convolutions that are on the CPU compute so, where it pays.

    Parameters and state dict stay what they are; outputs and gradients agree within rounding.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = MatmulConv2d


def _fits(conv: nn.Conv2d) -> bool:
    is_plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    is_known = conv.kernel_size != (1, 1) or conv.padding == (0, 0)
    return is_plain and is_known and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"


class MatmulConv2d(nn.Conv2d):
    """torch's, [B, C, H, W] to [B, D, H', W'], but for how it computes."""

    def forward(self, input: Tensor) -> Tensor:
        ways = self._use_matmul(input)
        if not any(ways):
            return super().forward(input)
        if ways.output and self.kernel_size == (1, 1):
            rows, columns = self.stride
            nhwc = input.permute(0, 2, 3, 1)[:, ::rows, ::columns]
            weight = self.weight if self.weight.stride(3) == 1 else self.weight.permute(0, 2, 3, 1)  # so the gradient has its strides
            return F.linear(nhwc, weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        output = _ConvMatmul.apply(input, self.weight, self.stride, self.padding, ways)
        return output if self.bias is None else output + self.bias.view(-1, 1, 1)

    def _use_matmul(self, input: Tensor) -> UseMatmul:
        never = UseMatmul(False, False, False)
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return never
        padding = cast("tuple[int, int]", self.padding)
        height, width = (_num_out(input.shape[2 + i], self.kernel_size[i], self.stride[i], padding[i]) for i in (0, 1))
        ways = choose_matmul(len(input), height * width, self.weight.shape)
        if self.kernel_size == (1, 1) and not input.is_contiguous(memory_format=torch.channels_last):
            return never  # every product would begin with a copy into that order
        has_grad = torch.is_grad_enabled()
        return UseMatmul(ways.output, ways.dx and has_grad, ways.dw and has_grad and self.weight.requires_grad)


class _ConvMatmul(torch.autograd.Function):
    """x [B, C, H, W] and weight [D, C, K, L] to [B, D, H', W'], in NHWC memory order where the products are used."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], ways: UseMatmul) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.ways = stride, padding, ways
        if not ways.output:
            return torch.conv2d(x, weight, None, stride, padding)
        height, width = (_num_out(x.shape[2 + i], weight.shape[2 + i], stride[i], padding[i]) for i in (0, 1))
        output = x.new_zeros(len(x), height, width, len(weight))
        _add_matmuls(x, weight.transpose(0, 1), output, _taps((height, width), x.shape[2:], weight.shape[2:], stride, padding))
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (x, weight), (dy,) = ctx.saved_tensors, gradients
        taps = list(_taps(dy.shape[2:], x.shape[2:], weight.shape[2:], ctx.stride, ctx.padding))
        needs_dx, needs_dw, *_ = ctx.needs_input_grad
        mask = [needs_dx and not ctx.ways.dx, needs_dw and not ctx.ways.dw, False]
        dx = dw = None
        if any(mask):
            stride, padding = list(ctx.stride), list(ctx.padding)
            dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask)
        if needs_dx and ctx.ways.dx:
            nhwc = x.new_zeros(len(x), *x.shape[2:], x.shape[1])
            _add_matmuls(dy, weight, nhwc, (Tap(tap.place, tap.inputs, tap.outputs) for tap in taps))
            dx = nhwc.permute(0, 3, 1, 2)
        if needs_dw and ctx.ways.dw:
            dw = _weight_gradient(dy, x, weight.shape, taps)
            if dw.stride() != weight.stride():  # the order that optimizers and DistributedDataParallel expect
                dw = torch.empty_like(weight).copy_(dw)
        return dx, dw, None, None, None


class Tap(NamedTuple):
    """One weight of the kernel: its place (row, column), and the rows and columns of output and input where it meets a pixel."""

    place: tuple[int, int]
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def _add_matmuls(source: Tensor, weight: Tensor, target: Tensor, taps: Iterator[Tap]) -> None:
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


def _num_out(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1
