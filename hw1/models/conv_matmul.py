"""Convolutions on the CPU as matrix products, one for each kernel position, where that is faster.

oneDNN's kernels are made for large maps and few channels. In layer4 of a ResNet-18 at 64 pixels, whose maps have 2 x 2 positions, its
gradient of the weights takes eight times as long as these products, the rest twice as long; the gradient of the weights of 1 x 1
convolutions takes up to twice as long at any size. In bf16 it is the gradient of the weights alone. Everywhere else torch's convolution is
used. Measurements: benchmarks/NOTES.md.

Shapes: B images, C channels in, D channels out, input H x W, output H' x W', kernel K x L. dx and dw are the gradients of the loss with
respect to the input and the weights, dy that of the output.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_POSITIONS = 49
"""Largest H' x W' for which products compute dw faster, and for a 1 x 1 convolution everything."""
MAX_POSITIONS_ALL = 9
"""Largest H' x W' for which products compute the output and dx of a larger kernel faster."""
MIN_WORK = 2**18
"""Larger kernels: least B x C x D for which dw is worth a call for each kernel position."""
MIN_WORK_ALL = 2**20
"""Larger kernels: the same for output and dx."""

Pair = tuple[int, int]
"""Of rows and of columns."""


class UseMatmul(NamedTuple):
    """Which results are computed as matrix products."""

    output: bool
    dx: bool
    dw: bool


def choose_matmul(batch: int, positions: int, weight: torch.Size, dtype: torch.dtype = torch.float32) -> UseMatmul:
    """Return which results of a convolution are faster as matrix products.

    Args:
        batch: Number of images.
        positions: Height x width of the output.
        weight: Shape of the weights, [D, C, K, L].
        dtype: What it computes in; products are made for float32 and bfloat16 only.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return UseMatmul(False, False, False)
    work = batch * weight[0] * weight[1]
    if dtype is torch.bfloat16:
        return UseMatmul(False, False, positions <= MAX_POSITIONS and work >= MIN_WORK)
    if weight[2:] == (1, 1):
        is_small = positions <= MAX_POSITIONS
        return UseMatmul(is_small, is_small, True)
    is_small = positions <= MAX_POSITIONS_ALL and work > MIN_WORK_ALL
    return UseMatmul(is_small, is_small, positions <= MAX_POSITIONS and work >= MIN_WORK)


def use_conv_matmul(model: nn.Module) -> None:
    """Turn the model's ungrouped, zero-padded convolutions with float32 weights on the CPU into `MatmulConv2d`, in place.

    Parameters and state dict do not change; outputs and gradients agree within rounding.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_supported(module):
            module.__class__ = MatmulConv2d


def _is_supported(conv: nn.Conv2d) -> bool:
    is_plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    is_padded_1x1 = conv.kernel_size == (1, 1) and conv.padding != (0, 0)
    return is_plain and not is_padded_1x1 and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"


class MatmulConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` that computes by matrix products where `choose_matmul` says so."""

    def forward(self, input: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, D, H', W']."""
        use = self._use_matmul(input)
        if not any(use):
            return super().forward(input)
        if use.output and self.kernel_size == (1, 1):
            rows, columns = self.stride
            nhwc = input.permute(0, 2, 3, 1)[:, ::rows, ::columns]
            weight = self.weight if self.weight.stride(3) == 1 else self.weight.permute(0, 2, 3, 1)  # so that dw has its strides
            return F.linear(nhwc, weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        dtype = compute_dtype(input)
        output: Tensor = _ConvMatmul.apply(input.to(dtype), self.weight.to(dtype), self.stride, self.padding, use)
        return output if self.bias is None else output + self.bias.to(dtype).view(-1, 1, 1)

    def _use_matmul(self, input: Tensor) -> UseMatmul:
        never = UseMatmul(False, False, False)
        if input.device.type != "cpu":
            return never
        height, width = _output_size(input.shape[2:], self.weight.shape[2:], cast(Pair, self.stride), cast(Pair, self.padding))
        use = choose_matmul(len(input), height * width, self.weight.shape, compute_dtype(input))
        if self.kernel_size == (1, 1) and not input.is_contiguous(memory_format=torch.channels_last):
            return never  # each product would begin with a copy into that memory order
        has_grad = torch.is_grad_enabled()
        return UseMatmul(use.output, use.dx and has_grad, use.dw and has_grad and self.weight.requires_grad)


def compute_dtype(input: Tensor) -> torch.dtype:
    """Return what a convolution of a tensor on the CPU computes in: autocast casts its input and weights."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype


class _ConvMatmul(torch.autograd.Function):
    """Convolve x [B, C, H, W] with weight [D, C, K, L]; results of matrix products are in NHWC memory order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, use: UseMatmul) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.use = stride, padding, use
        if not use.output:
            return torch.conv2d(x, weight, None, stride, padding)
        size = _output_size(x.shape[2:], weight.shape[2:], stride, padding)
        output = x.new_zeros(len(x), *size, len(weight))
        _add_matmuls(x, weight.transpose(0, 1), output, _taps(size, x.shape[2:], weight.shape[2:], stride, padding))
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (x, weight), (dy,) = ctx.saved_tensors, gradients
        taps = list(_taps(dy.shape[2:], x.shape[2:], weight.shape[2:], ctx.stride, ctx.padding))
        needs_dx, needs_dw, *_ = ctx.needs_input_grad
        mask = [needs_dx and not ctx.use.dx, needs_dw and not ctx.use.dw, False]
        dx = dw = None
        if any(mask):
            stride, padding = list(ctx.stride), list(ctx.padding)
            dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask)
        if needs_dx and ctx.use.dx:
            nhwc = x.new_zeros(len(x), *x.shape[2:], x.shape[1])
            _add_matmuls(dy, weight, nhwc, (Tap(tap.kernel, outputs=tap.inputs, inputs=tap.outputs) for tap in taps))
            dx = nhwc.permute(0, 3, 1, 2)
        if needs_dw and ctx.use.dw:
            dw = _weight_gradient(dy, x, weight.shape, taps)
            if dw.stride() != weight.stride():  # the order that optimizers and DistributedDataParallel expect
                dw = torch.empty_like(weight).copy_(dw)
        return dx, dw, None, None, None


class Tap(NamedTuple):
    """One position of the kernel, and the output and input positions that it connects."""

    kernel: Pair
    """Row and column."""
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def _add_matmuls(source: Tensor, weight: Tensor, target: Tensor, taps: Iterable[Tap]) -> None:
    """Add to target[outputs] the product of source[inputs] and weight[kernel], for each tap.

    Args:
        source: [B, C, H, W].
        weight: [C, D, K, L].
        target: [B, H', W', D], changed in place.
        taps: Kernel positions to add.
    """
    source, weight = source.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)
    for kernel, (rows, columns), (source_rows, source_columns) in taps:
        part = target[:, rows, columns]
        part += (source[:, source_rows, source_columns].reshape(-1, source.shape[3]) @ weight[kernel]).view(part.shape)


def _weight_gradient(dy: Tensor, x: Tensor, shape: torch.Size, taps: list[Tap]) -> Tensor:
    """Return dw [D, C, K, L] in NHWC memory order: for each tap the product of dy[outputs] and x[inputs]."""
    d, c, *kernel = shape
    x, dy = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
    gradient = dy.new_zeros(d, *kernel, c)
    for (row, column), (rows, columns), (x_rows, x_columns) in taps:
        torch.mm(dy[:, rows, columns].reshape(-1, d).t(), x[:, x_rows, x_columns].reshape(-1, c), out=gradient[:, row, column])
    return gradient.permute(0, 3, 1, 2)


def _taps(num_out: tuple[int, ...], num_in: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Pair) -> Iterator[Tap]:
    """Yield the kernel positions that meet the input at all, not only its padding."""
    rows, columns = ([_connected(tap, num_out[i], num_in[i], stride[i], padding[i]) for tap in range(kernel[i])] for i in (0, 1))
    for k, row in enumerate(rows):
        for m, column in enumerate(columns):
            if row and column:
                yield Tap((k, m), (row[0], column[0]), (row[1], column[1]))


def _connected(tap: int, num_out: int, num_in: int, stride: int, padding: int) -> tuple[slice, slice] | None:
    """Return, along one axis, the outputs whose tap lies within the input, and the inputs that it meets; None if there are none."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    return (slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)) if last >= first else None


def _output_size(size: torch.Size, kernel: torch.Size, stride: Pair, padding: Pair) -> Pair:
    height, width = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return height, width
