"""BatchNorm fused into the convolution before it: the same function in eval mode, with fewer passes over the features.

gamma (Wx - mean) / sqrt(var + eps) + beta is another convolution (Jacob et al., "Quantization and Training of Neural Networks",
section 3.2). Which pairs can be fused is read from torch.fx's trace of the model, or of its children where the whole cannot be traced.
"""

import copy
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.fx import Graph, Node

from hw1.models.conv_matmul import use_conv_matmul
from hw1.models.inference_graph import InferenceGraph, trace
from hw1.models.packed_layers import use_packed_layers

Structure = list[tuple[str, type[nn.Module]]]


class _Trace(NamedTuple):
    structure: Structure
    """Name and type of each module: a trace of another structure is of another model."""
    graphs: dict[str, Graph]


_TRACES: WeakKeyDictionary[nn.Module, _Trace] = WeakKeyDictionary()  # a trace of a large model takes a second


@torch.no_grad()
def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without the BatchNorms that follow a convolution.

    The fused weights are computed in the weights' precision. On a CPU the copy is a flat graph of packed layers that compute what follows
    them, see `hw1.models.inference_graph`; convolutions are matrix products where that is faster. The copy shares all other tensors with
    `model` and is stale once those change: fuse again after training. Outputs agree within rounding. A copy is returned as it is.
    """
    if isinstance(model, InferenceGraph):
        return model
    tensors = list(chain(model.parameters(), model.buffers()))
    fused = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()  # copies modules, shares tensors
    structure = [(name, type(module)) for name, module in model.named_modules()]
    if model not in _TRACES or _TRACES[model].structure != structure:
        _TRACES[model] = _Trace(structure, trace(fused))
    graphs = _TRACES[model].graphs
    for name, graph in graphs.items():
        part = fused.get_submodule(name)
        for conv_name, norm_name in _fusable_pairs(part, graph):
            _fuse_pair(part, conv_name, norm_name)
    use_conv_matmul(fused)
    use_packed_layers(fused)
    if all(tensor.device.type == "cpu" for tensor in tensors) and _is_finite(fused):
        for name, graph in graphs.items():
            flat = InferenceGraph(fused.get_submodule(name), graph)
            if not name:
                return flat.eval()
            fused.set_submodule(name, flat)
    return fused.eval()  # the new modules too


def _is_finite(model: nn.Module) -> bool:
    """Return whether every weight is finite: oneDNN's ReLU makes zeros of NaN, which would hide that a model is broken."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in chain(model.parameters(), model.buffers()))


def _fuse_pair(part: nn.Module, conv_name: str, norm_name: str) -> None:
    """Give a convolution the weights that make the norm after it superfluous, and put the norm's activation, or nothing, in its place."""
    conv, norm = part.get_submodule(conv_name), part.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    bias = (0 if conv.bias is None else conv.bias) - norm.running_mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    part.set_submodule(norm_name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def _fusable_pairs(part: nn.Module, graph: Graph) -> list[tuple[str, str]]:
    """Return names of (convolution, BatchNorm) where the convolution feeds only the norm and the norm reads only the convolution."""
    modules = dict(part.named_modules())
    calls: dict[str, set[Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), set()).add(node)
    pairs = []
    for name, uses in calls.items():
        if type(modules[name]) in (nn.BatchNorm2d, BatchNormAct2d) and modules[name].running_mean is not None:
            sources = {node.args[0] for node in uses}
            before = {str(node.target) if isinstance(node, Node) else "" for node in sources}
            source = before.pop()
            if before or not isinstance(modules.get(source), nn.Conv2d) or calls[source] != sources:
                continue
            if {user for node in calls[source] for user in node.users} == uses:
                pairs.append((source, name))
    return pairs
