"""BatchNorm fused into the convolution before it: the same function in eval mode, with fewer passes over the features.

gamma (Wx - mean) / sqrt(var + eps) + beta is another convolution (Jacob et al., "Quantization and Training of Neural Networks",
section 3.2). Which pairs can be fused is read from torch.fx's trace of the model, or of its children where the whole cannot be traced.
"""

import copy
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.fx import Node, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hw1.models.conv_matmul import use_conv_matmul
from hw1.models.packed_conv import use_packed_conv

_PAIRS: WeakKeyDictionary[nn.Module, list[tuple[str, str]]] = WeakKeyDictionary()  # a trace of a large model takes a second


@torch.no_grad()
def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without the BatchNorms that follow a convolution.

    The fused weights are computed in the weights' precision; convolutions are matrix products where that is faster, and have their weights
    in oneDNN's order elsewhere on a CPU. The copy shares all other tensors with `model` and is stale once those change: fuse again after
    training. Outputs agree within rounding.
    """
    if model not in _PAIRS:
        _PAIRS[model] = _fusable_pairs(model)
    tensors = chain(model.parameters(), model.buffers())
    fused = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()  # copies modules, shares tensors
    for conv_name, norm_name in _PAIRS[model]:
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        fused_conv = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
        if conv.weight.is_contiguous(memory_format=torch.channels_last):
            fused_conv = fused_conv.to(memory_format=torch.channels_last)
        fused.set_submodule(conv_name, fused_conv)
        fused.set_submodule(norm_name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
    use_conv_matmul(fused)
    use_packed_conv(fused)
    return fused.eval()  # the new modules too


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def _fusable_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Return names of (convolution, BatchNorm) where the convolution feeds only the norm and the norm reads only the convolution."""
    try:
        nodes = list(_Tracer().trace(model).nodes)
    except Exception:  # torch.fx raises whatever the model's code does with a symbolic value
        children = ((name, child) for name, child in model.named_children() if next(child.children(), None) is not None)
        return [(f"{name}.{conv}", f"{name}.{norm}") for name, child in children for conv, norm in _fusable_pairs(child)]
    modules = dict(model.named_modules())
    calls: dict[str, set[Node]] = {}
    for node in nodes:
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
