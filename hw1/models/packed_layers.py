"""Convolutions and linear layers for inference on the CPU, with weights in the order that oneDNN computes in.

Of weights in torch's order oneDNN makes a copy in its own at every call, which of few images takes longer than the convolution itself:
with 512 channels and maps of 3 x 3, half of the time for one image. A model whose weights no longer change needs that copy once. An
activation and the addition of a residual are computed as the output is written, which saves a pass over it each.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw1.models.conv_matmul import MatmulConv2d, compute_dtype
from hw1.models.depthwise import DepthwiseConv2d

OPERATORS = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_convolution_pointwise_",
    "_reorder_linear_weight",
    "_linear_pointwise",
)
"""What torch.compile calls for the same purpose, in torch.ops.mkldnn."""


class Activation(NamedTuple):
    """An activation as oneDNN computes it, and torch's own function."""

    name: str
    scalars: list[float]
    function: Callable[[Tensor], Tensor]


ACTIVATIONS: dict[str | None, Activation] = {
    None: Activation("none", [], lambda x: x),
    "relu": Activation("relu", [], F.relu),
    "relu6": Activation("hardtanh", [0.0, 6.0], F.relu6),
    "silu": Activation("swish", [], F.silu),
    "hardswish": Activation("hardswish", [], F.hardswish),
    "sigmoid": Activation("sigmoid", [], torch.sigmoid),
}
RESIDUAL_ACTIVATIONS: dict[str | None, str | None] = {None: None, "relu": "relu"}
"""What oneDNN computes after the addition of a residual, as torch hands it on."""


class PackedCall(NamedTuple):
    """A call of one of torch's operators on packed weights, for inputs of one shape, type and memory order.

    Attributes:
        operator: What is called.
        order: Which tensors come first, of `input` and `residual`.
        cast: The type to cast the input to, and into channels_last order where it has four dimensions; None: as it is.
        weights: Packed weight and bias.
        constants: What comes last.
    """

    operator: Callable[..., Tensor]
    order: tuple[str, ...]
    cast: torch.dtype | None
    weights: tuple[Tensor, Tensor | None]
    constants: tuple[Any, ...]

    def __call__(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Compute the output."""
        tensors = {"input": input if self.cast is None else cast_input(input, self.cast), "residual": residual}
        return self.operator(*(tensors[name] for name in self.order), *self.weights, *self.constants)


def cast_input(input: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the input of a packed layer in the type that it computes in, features [B, C, H, W] in channels_last order."""
    return input.to(dtype, memory_format=torch.channels_last) if input.dim() == 4 else input.to(dtype)


def use_packed_layers(model: nn.Module) -> None:
    """Turn the model's zero-padded convolutions and linear layers on the CPU into packed ones, in place, where torch has what it takes.

    Their weights must not change any more. Outputs agree within rounding.
    """
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)):
        return
    for module in model.modules():
        if (kind := KINDS.get(type(module))) and _is_supported(module):
            module.__class__ = kind
            cast(PackedConv2d | PackedLinear, module)._packed = {}


def _is_supported(layer: nn.Module) -> bool:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    is_padded_otherwise = isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str))
    return not is_padded_otherwise and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"


def can_use_packed(input: Tensor) -> bool:
    """Return whether packed layers compute this input: on the CPU, in float32 or, where oneDNN has it, bf16, without gradients."""
    is_inference = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    return is_inference and input.device.type == "cpu" and compute_dtype(input) in packed_dtypes() and input.numel() > 0


@cache
def packed_dtypes() -> tuple[torch.dtype, ...]:
    """Return what packed layers compute in on this processor: oneDNN refuses weights in bf16 on one without AVX-512."""
    has_bf16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)()
    return (torch.float32, torch.bfloat16) if has_bf16 else (torch.float32,)


class PackedConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` with weights that do not change, for tensors in channels_last order without gradients."""

    _packed: dict[torch.dtype, tuple[Tensor, Tensor | None]]
    """Weights in oneDNN's order, and bias, by what they compute in."""

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: str | None = None, *, overwrite: bool = False) -> Tensor:
        """Map features [B, C, H, W] to activation(convolution + residual) [B, D, H', W'].

        Args:
            input: The features.
            residual: [B, D, H', W'], or what can be added to that.
            activation: A key of `ACTIVATIONS`.
            overwrite: The result may take the residual's place in memory.
        """
        if call := self.packed_call(input, residual, activation, overwrite=overwrite):
            return call(input, residual)
        output = super().forward(input)
        return ACTIVATIONS[activation].function(output if residual is None else output + residual)

    def packed_call(
        self, input: Tensor, residual: Tensor | None = None, activation: str | None = None, *, overwrite: bool = False
    ) -> PackedCall | None:
        """Return what computes `forward` for such tensors; None where torch's convolution has to."""
        dtype = compute_dtype(input)
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last)
        is_ordered = is_channels_last or self.weight.is_contiguous(memory_format=torch.channels_last)  # else torch goes on in NCHW
        if not (is_ordered and can_use_packed(input)) or self._is_product(input):
            return None
        if dtype not in self._packed:
            self._packed[dtype] = self._pack(input, dtype)
        cast_to = None if input.dtype is dtype and is_channels_last else dtype
        geometry = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        if residual is None:
            act = ACTIVATIONS[activation]
            operator = torch.ops.mkldnn._convolution_pointwise.default
            return PackedCall(operator, ("input",), cast_to, self._packed[dtype], (*geometry, act.name, act.scalars, ""))
        # of grouped convolutions torch adds the residual in a pass of its own, which it does not know how to do in bf16
        is_plain = self.groups == 1 and residual.dtype is dtype and residual.is_contiguous(memory_format=torch.channels_last)
        if not is_plain or residual.shape != self._output_shape(input) or activation not in RESIDUAL_ACTIVATIONS:
            return None
        constants: tuple[Any, ...] = (*geometry, "add", 1.0, RESIDUAL_ACTIVATIONS[activation], [], "")
        if overwrite:
            return PackedCall(
                torch.ops.mkldnn._convolution_pointwise_.binary, ("residual", "input"), cast_to, self._packed[dtype], constants
            )
        return PackedCall(torch.ops.mkldnn._convolution_pointwise.binary, ("input", "residual"), cast_to, self._packed[dtype], constants)

    def _is_product(self, input: Tensor) -> bool:
        return False

    def _pack(self, input: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        geometry = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight.detach().to(dtype), *geometry, list(input.shape))
        return weight, None if self.bias is None else self.bias.detach().to(dtype)

    def _output_shape(self, input: Tensor) -> tuple[int, ...]:
        """Return (B, D, H', W')."""
        sides: Any = zip(input.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return (len(input), self.out_channels, *((n + 2 * int(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides))


class PackedMatmulConv2d(PackedConv2d, MatmulConv2d):
    """A `PackedConv2d` that computes by matrix products where these are faster: not where oneDNN computes with AVX-512."""

    def _is_product(self, input: Tensor) -> bool:
        return torch.backends.cpu.get_cpu_capability() != "AVX512" and self._ways(input, self._geometry(input)).output != "conv"


class PackedLinear(nn.Linear):
    """A `torch.nn.Linear` with weights that do not change, for bf16 without gradients."""

    _packed: dict[torch.dtype, tuple[Tensor, Tensor | None]]

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        """Map [..., C] to activation(linear) [..., D]; `activation` is a key of `ACTIVATIONS`."""
        call = self.packed_call(input, activation)
        return call(input) if call else ACTIVATIONS[activation].function(super().forward(input))

    def packed_call(self, input: Tensor, activation: str | None = None) -> PackedCall | None:
        """Return what computes `forward` for such tensors; None where torch's product has to."""
        dtype = compute_dtype(input)
        if dtype is not torch.bfloat16 or not can_use_packed(input):
            return None
        if dtype not in self._packed:
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self._packed[dtype] = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().to(dtype)), bias
        act, cast_to = ACTIVATIONS[activation], None if input.dtype is dtype else dtype
        constants = (act.name, act.scalars, "")
        return PackedCall(torch.ops.mkldnn._linear_pointwise.default, ("input",), cast_to, self._packed[dtype], constants)


KINDS: dict[type[nn.Module], type[PackedConv2d] | type[PackedLinear]] = {
    nn.Conv2d: PackedConv2d,
    DepthwiseConv2d: PackedConv2d,
    MatmulConv2d: PackedMatmulConv2d,
    nn.Linear: PackedLinear,
}
