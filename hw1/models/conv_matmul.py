"""Convolutions on the CPU as matrix products, where these are faster than oneDNN's kernels.

oneDNN's kernels are made for large maps and few channels. Over small maps of many channels its gradient of the weights takes up to eight
times as long as products, the output and the gradient of the input up to twice as long: of few images it spends more time on reordering
the weights than on computing. There are two ways to write a convolution as products. By *taps* there is one for each kernel position,
between the positions that it connects: padding costs nothing. By *patches* there is a single one, with the inputs of each output laid out
in a row: that is one call, which several threads share well. Everywhere else torch's convolution is used. Measurements:
`python -m benchmarks.convolutions`, benchmarks/NOTES.md.

Shapes: B images, C channels in, D channels out, input H x W, output H' x W', kernel K x L. dx and dw are the gradients of the loss with
respect to the input and the weights, dy that of the output.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

Result = TypeVar("Result")
Pair = tuple[int, int]
"""Of rows and of columns."""
Way = Literal["conv", "taps", "patches"]
"""How a result is computed; `conv` is torch's."""

MAX_POSITIONS = 49
"""Largest H' x W' for which products compute dw faster, and for a 1 x 1 convolution everything."""
MAX_POSITIONS_ALL = {torch.float32: 9, torch.bfloat16: 4}
"""Largest H' x W' for which taps compute the output and dx of a larger kernel faster."""
MANY_PADDED = 0.7
"""Where less than this share of all pairs of output and kernel position meet the input, taps save more than their calls cost."""
FEW_ROWS, SOME_ROWS = 128, 512
"""Images x positions up to which patches are as fast as taps, in any case and where little is padding."""
MAX_POSITIONS_STRIDED, MAX_ROWS_STRIDED = 144, 2**13
"""Largest H' x W', and B x H' x W', for which patches compute dw in bf16 faster where there is a stride."""
MIN_CHANNELS = 2**16
"""C x D from which on the weights are so many that patches pay for the output."""
MIN_CHANNELS_TAPS = 2**17
"""C x D from which on taps pay for dw in bf16, and in float32 for dx and dw of a convolution with a stride."""
MIN_WORK = 2**18
"""Least B x C x D for which dw in float32 is worth a call for each kernel position."""
MIN_WORK_ALL = {torch.float32: 2**20, torch.bfloat16: 2**21}
"""B x C x D above which output and dx are."""
MAX_POSITIONS_HEAVY, MIN_WORK_HEAVY, MIN_CHANNELS_HEAVY = 9, 2**23, 2**18
"""Largest H' x W', and least B x C x D and C x D, for which taps compute the output and dx faster in bf16 too."""
HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether oneDNN has its wider kernels, which compute dw in float32 faster than products do if images and positions are many."""


class Ways(NamedTuple):
    """How the results of a convolution are computed."""

    output: Way = "conv"
    dx: Way = "conv"
    dw: Way = "conv"


class Geometry(NamedTuple):
    """What decides how a convolution is computed."""

    batch: int
    """Number of images."""
    input: Pair
    """Height and width."""
    weight: tuple[int, ...]
    """Shape of the weights, [D, C, K, L]."""
    stride: Pair
    padding: Pair

    @property
    def output(self) -> Pair:
        """Height and width of the output."""
        height, width = ((self.input[i] + 2 * self.padding[i] - self.weight[2 + i]) // self.stride[i] + 1 for i in (0, 1))
        return height, width

    def overlap(self) -> float:
        """Return which share (0-1) of all pairs of output and kernel position meet the input, not its padding."""
        height, width = self.output
        met = sum(_length(tap.outputs[0]) * _length(tap.outputs[1]) for tap in _eager_cache(taps_of)(self))
        return met / (height * width * self.weight[2] * self.weight[3])


@lru_cache(maxsize=4096)
def choose_ways(geometry: Geometry, dtype: torch.dtype) -> Ways:
    """Return how the results of a convolution are computed fastest.

    Args:
        geometry: Its sizes.
        dtype: What it computes in; products are made for float32 and bfloat16 only.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return Ways()
    height, width = geometry.output
    positions, channels = height * width, geometry.weight[0] * geometry.weight[1]
    rows, work = geometry.batch * positions, geometry.batch * channels
    if geometry.weight[2:] == (1, 1):  # taps and patches are the same
        small: Way = "patches" if positions <= MAX_POSITIONS else "conv"
        return Ways(small, small, "patches" if dtype is torch.float32 or channels >= MIN_CHANNELS else small)
    if positions > (MAX_POSITIONS if geometry.stride == (1, 1) or dtype is torch.float32 else MAX_POSITIONS_STRIDED):
        return Ways()
    is_padded = geometry.overlap() < MANY_PADDED
    is_few = rows <= FEW_ROWS and channels >= MIN_CHANNELS
    is_tiny = positions <= MAX_POSITIONS_ALL[dtype] and work > MIN_WORK_ALL[dtype]
    is_tiny |= positions <= MAX_POSITIONS_HEAVY and work >= MIN_WORK_HEAVY and channels >= MIN_CHANNELS_HEAVY
    dx: Way = "taps" if is_tiny else "conv"
    if dtype is torch.bfloat16:
        output: Way = "patches" if is_few else "taps" if is_tiny and is_padded else "conv"
        if geometry.stride != (1, 1):
            return Ways(output, dx, "patches" if rows <= MAX_ROWS_STRIDED else "conv")
        dw: Way = "taps" if channels >= MIN_CHANNELS_TAPS else "conv"
        return Ways(output, dx, "patches" if rows <= (FEW_ROWS if is_padded and dw == "taps" else SOME_ROWS) else dw)
    output = "taps" if is_tiny and is_padded else "patches" if is_few else "conv"
    is_heavy_strided = geometry.stride != (1, 1) and channels >= MIN_CHANNELS_TAPS
    if is_heavy_strided and positions <= MAX_POSITIONS_ALL[dtype]:
        dx = "taps"
    is_for_wide_kernels = HAS_AVX512 and rows > SOME_ROWS and positions > MAX_POSITIONS_ALL[dtype] and not is_heavy_strided
    dw = "taps" if work >= MIN_WORK and not is_for_wide_kernels else "conv"
    return Ways(output, dx, "patches" if rows <= FEW_ROWS and (dw == "conv" or not is_padded) else dw)


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
    """A `torch.nn.Conv2d` that computes by matrix products where `choose_ways` says so."""

    def forward(self, input: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, D, H', W']."""
        if input.device.type != "cpu":
            return super().forward(input)
        geometry = self._geometry(input)
        ways = self._ways(input, geometry)
        if ways == Ways():
            return super().forward(input)
        if ways.output != "conv" and self.kernel_size == (1, 1):
            rows, columns = self.stride
            nhwc = input.permute(0, 2, 3, 1)[:, ::rows, ::columns]
            weight = self.weight if self.weight.stride(3) == 1 else self.weight.permute(0, 2, 3, 1)  # so that dw has its strides
            return F.linear(nhwc, weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        dtype = compute_dtype(input)
        output: Tensor = _ConvMatmul.apply(input.to(dtype), self.weight.to(dtype), geometry, ways)
        return output if self.bias is None else output + self.bias.to(dtype).view(-1, 1, 1)

    def _geometry(self, input: Tensor) -> Geometry:
        batch, _, height, width = input.shape
        return Geometry(batch, (height, width), tuple(self.weight.shape), cast(Pair, self.stride), cast(Pair, self.padding))

    def _ways(self, input: Tensor, geometry: Geometry) -> Ways:
        if self.kernel_size == (1, 1) and not input.is_contiguous(memory_format=torch.channels_last):
            return Ways()  # each product would begin with a copy into that memory order
        ways = _eager_cache(choose_ways)(geometry, compute_dtype(input))
        if torch.is_grad_enabled():
            return ways if self.weight.requires_grad else ways._replace(dw="conv")
        saves_only_reordering = ways.output == "patches" and self.kernel_size != (1, 1)  # which `PackedConv2d` does once
        return Ways("conv" if saves_only_reordering else ways.output)


def compute_dtype(input: Tensor) -> torch.dtype:
    """Return what a convolution of a tensor on the CPU computes in: autocast casts its input and weights."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype


class _ConvMatmul(torch.autograd.Function):
    """Convolve x [B, C, H, W] with weight [D, C, K, L]; results of matrix products are in NHWC memory order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, ways: Ways) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.ways = geometry, ways
        if ways.output == "conv":
            return torch.conv2d(x, weight, None, geometry.stride, geometry.padding)
        if ways.output == "patches":
            product = _patches(x, geometry) @ weight.permute(0, 2, 3, 1).flatten(1).t()
            return product.view(len(x), *geometry.output, len(weight)).permute(0, 3, 1, 2)
        return _sum_by_taps(x, weight.transpose(0, 1), geometry.output, _eager_cache(taps_of)(geometry))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), (dy,) = ctx.saved_tensors, gradients
        geometry, ways = cast(Geometry, ctx.geometry), cast(Ways, ctx.ways)
        needs_dx, needs_dw, *_ = ctx.needs_input_grad
        mask = [needs_dx and ways.dx == "conv", needs_dw and ways.dw == "conv", False]
        dx = dw = None
        if any(mask):
            stride, padding = list(geometry.stride), list(geometry.padding)
            dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask)
        if needs_dx and ways.dx != "conv":
            taps = _eager_cache(taps_of)(geometry)
            dx = _sum_by_taps(dy, weight, geometry.input, [Tap(tap.kernel, outputs=tap.inputs, inputs=tap.outputs) for tap in taps])
        if needs_dw and ways.dw != "conv":
            dw = _dw_by_patches(dy, x, geometry) if ways.dw == "patches" else _dw_by_taps(dy, x, geometry)
            if dw.stride() != weight.stride():  # the order that optimizers and DistributedDataParallel expect
                dw = torch.empty_like(weight).copy_(dw)
        return dx, dw, None, None


class Tap(NamedTuple):
    """One position of the kernel, and the output and input positions that it connects."""

    kernel: Pair
    """Row and column."""
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def _sum_by_taps(source: Tensor, weight: Tensor, size: Pair, taps: Iterable[Tap]) -> Tensor:
    """Return target [B, D, *size] in NHWC memory order: target[outputs] is the sum of source[inputs] x weight[kernel] over the taps.

    It is summed in float32, also of products in bf16.

    Args:
        source: [B, C, H, W].
        weight: [C, D, K, L].
        size: Height and width of the target.
        taps: Kernel positions to add.
    """
    target = source.new_zeros(len(source), *size, weight.shape[1], dtype=torch.float32)
    nhwc, by_tap = source.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)
    for kernel, (rows, columns), (source_rows, source_columns) in taps:
        part = target[:, rows, columns]
        part += (nhwc[:, source_rows, source_columns].reshape(-1, nhwc.shape[3]) @ by_tap[kernel]).view(part.shape)
    return target.to(source.dtype).permute(0, 3, 1, 2)


def _dw_by_taps(dy: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return dw [D, C, K, L] in NHWC memory order: for each tap the product of dy[outputs] and x[inputs]."""
    d, c, *kernel = geometry.weight
    x, dy = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
    taps = _eager_cache(taps_of)(geometry)
    is_complete = len(taps) == kernel[0] * kernel[1]
    gradient = (dy.new_empty if is_complete else dy.new_zeros)((d, *kernel, c))
    for (row, column), (rows, columns), (x_rows, x_columns) in taps:
        torch.mm(dy[:, rows, columns].reshape(-1, d).t(), x[:, x_rows, x_columns].reshape(-1, c), out=gradient[:, row, column])
    return gradient.permute(0, 3, 1, 2)


def _dw_by_patches(dy: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return dw [D, C, K, L] in NHWC memory order: the product of all of dy and the patches of x."""
    d, c, *kernel = geometry.weight
    product = dy.permute(0, 2, 3, 1).reshape(-1, d).t() @ _patches(x, geometry)
    return product.view(d, *kernel, c).permute(0, 3, 1, 2)


def _patches(x: Tensor, geometry: Geometry) -> Tensor:
    """Return, of x [B, C, H, W], the inputs of each output in a row: [B x H' x W', K x L x C], zeros where they are padding."""
    (height, width), (stride_y, stride_x), (pad_y, pad_x) = geometry.input, geometry.stride, geometry.padding
    _, c, *kernel = geometry.weight
    nhwc = x.permute(0, 2, 3, 1)
    if kernel == [1, 1]:
        return nhwc[:, ::stride_y, ::stride_x].reshape(-1, c)
    padded = x.new_zeros(len(x), height + 2 * pad_y, width + 2 * pad_x, c)
    padded[:, pad_y : pad_y + height, pad_x : pad_x + width] = nhwc
    windows = padded.unfold(1, kernel[0], stride_y).unfold(2, kernel[1], stride_x).permute(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, kernel[0] * kernel[1] * c)


@lru_cache(maxsize=4096)
def taps_of(geometry: Geometry) -> tuple[Tap, ...]:
    """Return the kernel positions that meet the input at all, not only its padding."""
    sizes = list(zip(geometry.output, geometry.input, geometry.weight[2:], geometry.stride, geometry.padding, strict=True))
    rows, columns = ([_connected(tap, out, size, stride, padding) for tap in range(kernel)] for out, size, kernel, stride, padding in sizes)
    return tuple(
        Tap((k, m), (row[0], column[0]), (row[1], column[1]))
        for k, row in enumerate(rows)
        for m, column in enumerate(columns)
        if row and column
    )


def _eager_cache(function: "_lru_cache_wrapper[Result]") -> Callable[..., Result]:
    """Return the function with its cache, of which torch.compile would warn, or while it compiles the function without."""
    return function.__wrapped__ if torch.compiler.is_compiling() else function


def _length(positions: slice) -> int:
    return int(positions.stop) - int(positions.start)


def _connected(tap: int, num_out: int, num_in: int, stride: int, padding: int) -> tuple[slice, slice] | None:
    """Return, along one axis, the outputs whose tap lies within the input, and the inputs that it meets; None if there are none."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    return (slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)) if last >= first else None
