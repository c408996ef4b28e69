"""A model in eval mode as one flat graph, in which convolutions and linear layers compute the additions and activations that follow them.

What follows what is read from torch.fx's trace. On the CPU that saves a pass over the features each, and Python's way through the modules.
"""

import copy
import operator
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node, Tracer
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from hw1.models.conv_matmul import compute_dtype
from hw1.models.packed_layers import RESIDUAL_ACTIVATIONS, PackedCall, PackedConv2d, PackedLinear, can_use_packed, cast_input

ADDITIONS = (operator.add, operator.iadd, torch.add)
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.Sigmoid: "sigmoid",
}
FUNCTIONS: dict[Callable[..., Any], str] = {F.relu: "relu", torch.relu: "relu", F.silu: "silu", torch.sigmoid: "sigmoid"}
"""Activations by what calls them, as `packed_layers.ACTIVATIONS` names them."""
MAX_SHAPES = 16
"""Of inputs, that are remembered: those of a folder's last, smaller batches or of a server's are not worth more memory."""


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> dict[str, Graph]:
    """Trace a model in eval mode: a graph by the name of the module, "" for the whole; of its children where the whole cannot be traced."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # torch.fx raises whatever the model's code does with a symbolic value
        children = ((name, child) for name, child in model.named_children() if next(child.children(), None) is not None)
        return {f"{name}.{inner}".rstrip("."): graph for name, child in children for inner, graph in trace(child).items()}
    return {"": graph}


class InferenceGraph(nn.Module):
    """A module in eval mode with packed layers, which computes what follows them in them.

    The first batch of a shape goes through the layers, which choose how they compute it. From the second on their choices are called
    directly: of one image all of Python between the operators is otherwise a fifth of the time.

    Args:
        module: Its convolutions and linear layers are packed, its fused norms are replaced.
        graph: Its trace, which is left as it was.
    """

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        super().__init__()
        self.layers = GraphModule(module, _fuse(graph, dict(module.named_modules())))
        self._direct: dict[Hashable, GraphModule | None] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module computes."""
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or not can_use_packed(args[0]):
            return self.layers(*args, **kwargs)
        key = _shape_of(args[0])
        direct = self._direct.get(key)
        if direct is not None:
            return direct.forward(*args)  # without nn.Module's way of calling it, for which there are no hooks
        if key not in self._direct:
            if len(self._direct) < MAX_SHAPES:
                self._direct[key] = None
            return self.layers(*args)
        calls = _CallRecorder(self.layers)
        output = calls.run(*args)
        self._direct[key] = _call_directly(self.layers, calls.found)
        return output


def _shape_of(input: Tensor) -> Hashable:
    """Return all that packed layers choose by, of the first input: the others' follow from it."""
    return input.shape, input.stride(), input.dtype, compute_dtype(input)


class _CallRecorder(Interpreter):
    """Run a graph and keep what its packed layers call."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.found: dict[Node, PackedCall] = {}

    def run_node(self, n: Node) -> Any:
        """Run a node; see `torch.fx.Interpreter`."""
        layer = self.submodules.get(str(n.target)) if n.op == "call_module" else None
        if isinstance(layer, PackedConv2d | PackedLinear):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            if call := layer.packed_call(*args, **kwargs):
                self.found[n] = call
        return super().run_node(n)


def _call_directly(layers: GraphModule, calls: Mapping[Node, PackedCall]) -> GraphModule:
    """Return the graph with operators in the place of those layers."""
    copies: dict[Node, Node] = {}
    graph, root = Graph(), nn.Module()
    graph.output(graph.graph_copy(layers.graph, copies))
    for node, call in calls.items():
        new = copies[node]
        tensors = {"input": new.args[0], "residual": new.kwargs.get("residual")}
        with graph.inserting_before(new):
            if call.cast is not None:
                tensors["input"] = graph.call_function(cast_input, (tensors["input"], call.cast))
            weights = [
                None if tensor is None else _constant(graph, root, f"{new.name}_{i}", tensor) for i, tensor in enumerate(call.weights)
            ]
            direct = graph.call_function(call.operator, (*(tensors[name] for name in call.order), *weights, *call.constants))
        _replace(new, direct)
    for new in graph.nodes:
        if new.op in ("call_module", "get_attr") and not hasattr(root, str(new.target)):
            name = f"{new.name}_{new.op}"  # one look-up instead of one for each part of the name
            value: Any = layers.get_submodule(str(new.target)) if new.op == "call_module" else operator.attrgetter(str(new.target))(layers)
            root.register_module(name, value) if new.op == "call_module" else root.register_buffer(name, value)
            new.target = name
    return GraphModule(root, graph)


def _constant(graph: Graph, root: nn.Module, name: str, tensor: Tensor) -> Node:
    root.register_buffer(name, tensor)
    return graph.get_attr(name)


def _fuse(graph: Graph, modules: Mapping[str, nn.Module]) -> Graph:
    """Return a copy of the graph in which packed layers compute the additions and activations that follow them."""
    graph = copy.deepcopy(graph)
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if isinstance(_module_of(node, modules), nn.Identity | _DropoutNd):
            _replace(node, node.args[0])
        elif node.op == "call_function" and node.target in ADDITIONS:
            _fuse_addition(node, modules, order)
        elif name := _activation_of(node, modules):
            _fuse_activation(node, name, modules)
    return graph


def _module_of(node: object, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the module that a node calls; None for another node, or none."""
    return modules.get(str(node.target)) if isinstance(node, Node) and node.op == "call_module" else None


def _activation_of(node: Node, modules: Mapping[str, nn.Module]) -> str | None:
    """Return which of `packed_layers.ACTIVATIONS` a node computes; None for anything else."""
    if isinstance(node.target, str):
        module = _module_of(node, modules)
        return None if module is None else MODULES.get(type(module))
    return FUNCTIONS.get(node.target)


def _fuse_addition(node: Node, modules: Mapping[str, nn.Module], order: Mapping[Node, int]) -> None:
    """Let the later of two convolutions, or the only one, add what its output is added to."""
    terms = [term for term in node.args if isinstance(term, Node)]
    if len(terms) < 2 or terms[0] is terms[1] or node.kwargs:
        return
    residual, conv = sorted(terms, key=order.__getitem__)
    if isinstance(_module_of(conv, modules), PackedConv2d) and not conv.kwargs and len(conv.users) == 1:
        conv.kwargs = {"residual": residual, "overwrite": _is_last_use(residual, node, order[conv], modules, order)}
        _replace(node, conv)


def _is_last_use(residual: Node, addition: Node, position: int, modules: Mapping[str, nn.Module], order: Mapping[Node, int]) -> bool:
    """Return whether nobody reads the residual after that position, nor anything that may share its memory."""
    is_new = isinstance(_module_of(residual, modules), PackedConv2d | nn.MaxPool2d)
    others = residual.users.keys() - {addition}
    return is_new and all(isinstance(_module_of(user, modules), PackedConv2d) and order[user] < position for user in others)


def _fuse_activation(node: Node, name: str, modules: Mapping[str, nn.Module]) -> None:
    """Let the packed layer before an activation compute it."""
    before = node.args[0]
    if not isinstance(before, Node) or len(before.users) > 1 or "activation" in before.kwargs:
        return
    is_packed = isinstance(_module_of(before, modules), PackedConv2d | PackedLinear)
    if is_packed and ("residual" not in before.kwargs or name in RESIDUAL_ACTIVATIONS):
        before.kwargs = {**before.kwargs, "activation": name}
        _replace(node, before)


def _replace(node: Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)
