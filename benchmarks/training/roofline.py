"""The least time that a training step can take: every operation at the larger of its arithmetic and its traffic, summed.

Williams, Waterman & Patterson, "Roofline", 2009, applied to each operation apart. The model is run once on torch's `meta` device, which
computes nothing, with hooks on convolutions, linear layers and BatchNorm; autograd itself says which of them need which backward. Left
out are pooling, dropout, CBAM's gates and the loss (below 2% of the bytes), and caches: where a tensor fits in one, a step can be faster.
For timm's ResNets and models built on them.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from benchmarks.training.case import Case
from benchmarks.training.ours import recipe_of
from hw1.models.freeze import freeze_stages, set_train_mode

# Passes over a BatchNorm's tensor. Forward in train mode: read for the statistics, read, write; a residual is read too. Backward:
# gradient and input are read for two sums, then read again and the result written; with a residual the output is read too, and the masked
# gradient written in between.
FUSED_FORWARD, FUSED_FORWARD_ADD = 3, 4
FUSED_BACKWARD, FUSED_BACKWARD_ADD = 5, 7
# Kernels of their own: ReLU reads and writes, its backward reads two and writes; an addition reads two and writes, and so does the sum of
# the two gradients that meet where a residual branches off.
RELU, RELU_BACKWARD, ADD, ADD_BACKWARD = 2, 3, 3, 3
ADAMW_BYTES = 28  # a trained parameter: weight, gradient and both moments read; weight and moments written; float32
CAST_BYTES = 6  # a weight: read as float32, written as a two-byte float


@dataclass(frozen=True)
class Rates:
    """Of a device, as measured."""

    flops: float
    """Floating-point operations a second, of the matrix units in the step's precision."""
    bytes: float
    """Bytes a second that a copy reads and writes."""

    def or_better(self, other: "Rates") -> "Rates":
        """The better of each of the two."""
        return Rates(max(self.flops, other.flops), max(self.bytes, other.bytes))


@dataclass(frozen=True)
class Operation:
    """A convolution or linear layer in one direction."""

    name: str
    kind: str
    """`forward`, `dgrad` (gradient of the input) or `wgrad` (of the weight)."""
    flop: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        return max(self.flop / rates.flops, self.bytes / rates.bytes)


@dataclass(frozen=True)
class Norm:
    """A BatchNorm with the ReLU and the residual addition behind it; bytes moved in all passes."""

    name: str
    eager: float
    fused: float
    folded: float
    """Where it can be folded into the convolution before it (statistics fixed, nothing in it or before it trained): the residual alone."""


@dataclass(frozen=True)
class Step:
    """What one training step does."""

    images: int
    operations: list[Operation] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    optimizer_bytes: float = 0.0

    @property
    def forward_macs(self) -> float:
        """Multiply-accumulates of the forward pass, an image."""
        return sum(op.flop for op in self.operations if op.kind == "forward") / 2 / self.images

    @property
    def flop(self) -> float:
        """Floating-point operations of forward and backward, an image."""
        return sum(op.flop for op in self.operations) / self.images

    def limits(self, rates: Rates) -> dict[str, float]:
        """Images/s: `eager` with each kernel by itself, `fused` with BatchNorm, ReLU and addition in one, `folded` with the BatchNorm of a
        frozen prefix inside its convolutions as well (= `fused` where there is no such prefix)."""
        products = sum(op.seconds(rates) for op in self.operations) + self.optimizer_bytes / rates.bytes
        moved = {
            "eager": sum(norm.eager for norm in self.norms),
            "fused": sum(norm.fused for norm in self.norms),
            "folded": sum(norm.folded for norm in self.norms),
        }
        return {name: self.images / (products + value / rates.bytes) for name, value in moved.items()}

    def describe(self, rates: Rates) -> dict[str, Any]:
        limits = {name: round(value, 1) for name, value in self.limits(rates).items()}
        return {"rates": asdict(rates), "forward_gmac": self.forward_macs / 1e9, "gflop": self.flop / 1e9, "images_per_second": limits}


def analyse_case(case: Case, freezing: str, bytes_per_number: int = 2) -> Step:
    """The step of a `case` with the freezing of a recipe (`faithful`, `fast`), activations and weights in numbers of so many bytes."""
    recipe = recipe_of(case, f"{freezing}/nhwc")
    with torch.device("meta"):
        options: dict[str, Any] = {} if "cbam" not in case.model else {"drop_layer3": recipe.model.drop_layer3}
        model = timm.create_model(case.model, num_classes=case.num_classes, **options)
    freeze_stages(model, recipe.freeze)
    set_train_mode(model, recipe.freeze)
    return analyse(model, (case.batch, 3, case.size, case.size), bytes_per_number)


def analyse(model: nn.Module, shape: tuple[int, int, int, int], bytes_per_number: int = 2) -> Step:
    """The step of a model on the meta device, its modes and `requires_grad` as they are, on images of `shape` [B, 3, H, W]."""
    step, size = Step(shape[0]), bytes_per_number
    parents = dict(model.named_modules())
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(_see_product(name, step, size)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_hook(_see_norm(name, parents[name.rpartition(".")[0]], step, size)))
    with torch.device("meta"):
        model(torch.empty(shape))
    for hook in hooks:
        hook.remove()
    moved = sum(p.numel() * ADAMW_BYTES for p in model.parameters() if p.requires_grad)
    moved += sum(p.numel() * CAST_BYTES for p in model.parameters() if p.ndim > 1 and size < 4)
    return Step(step.images, step.operations, step.norms, moved)


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


def _see_product(name: str, step: Step, size: int) -> Hook:
    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Any = module.weight
        flop = 2.0 * output.numel() * weight[0].numel()
        moved = float(size * (inputs[0].numel() + weight.numel() + output.numel()))
        kinds = {"forward": True, "dgrad": inputs[0].requires_grad, "wgrad": weight.requires_grad}
        step.operations.extend(Operation(name, kind, flop, moved) for kind, needed in kinds.items() if needed)

    return see


def _see_norm(name: str, parent: nn.Module, step: Step, size: int) -> Hook:
    attribute = name.rpartition(".")[2]
    adds = attribute == "bn3" if isinstance(parent, Bottleneck) else attribute == "bn2" and isinstance(parent, BasicBlock)
    has_relu = "downsample" not in name

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        moved, grows = inputs[0].numel() * size, output.requires_grad
        fused = (FUSED_FORWARD_ADD if adds else FUSED_FORWARD) + (FUSED_BACKWARD_ADD if adds else FUSED_BACKWARD) * grows
        eager = FUSED_FORWARD + RELU * has_relu + ADD * adds
        eager += (FUSED_BACKWARD + RELU_BACKWARD * has_relu + ADD_BACKWARD * adds) * grows
        folded = fused if module.training or grows else adds
        step.norms.append(Norm(name, *(float(moved * passes) for passes in (eager, fused, folded))))

    return see
