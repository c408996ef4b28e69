"""Let torch import its compiler, more than a second's work, once something is compiled, not for every optimizer.

`torch._dynamo` is imported by torch's optimizers, to exempt themselves from a compiler that nobody called, and by torchvision and timm for
an exemption, a setting and a question. A stand-in answers these, and gives way to the package at the first other use of it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
EXEMPTION = "__dynamo_disable"
"""Attribute in which torch keeps the exempted form of a function from its first call on."""


def defer_compiler() -> None:
    """Put the stand-in in the place of `torch._dynamo`, unless that is imported already."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = DeferredCompiler()


def import_compiler() -> ModuleType:
    """Import `torch._dynamo` itself, in the place of the stand-in, and give it what it was asked for meanwhile."""
    stand_in = sys.modules.get(COMPILER)
    if not isinstance(stand_in, DeferredCompiler):
        return import_module(COMPILER)
    del sys.modules[COMPILER]
    compiler = import_module(COMPILER)
    for name, value in vars(stand_in.config).items():
        setattr(compiler.config, name, value)
    for function in stand_in.exempted:
        vars(function).pop(EXEMPTION, None)  # torch asks again at the next call
    return compiler


class DeferredConfig:
    """Keeps what is set of `torch._dynamo.config` until that is imported; reading imports it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_compiler().config, name)


class DeferredCompiler(ModuleType):
    """Stands in for `torch._dynamo`: what eager code needs of it, and the whole of it for everything else."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        self.__spec__ = find_spec(COMPILER)
        self.__file__ = self.__spec__.origin if self.__spec__ else None
        self.config = DeferredConfig()
        self.exempted: list[Callable[..., Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what anyone asks of any module; importing a part of a package asks for its path
            raise AttributeError(name)
        return getattr(import_compiler(), name)

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Do nothing, as the compiler's own does where nothing is compiled."""

    def disable(self, fn: Callable[..., Any], recursive: bool = True, **options: Any) -> Any:
        """Exempt a function from compiling, which is nothing to do until something is compiled."""
        if "wrapping" not in options:  # a decorator's call: torch's own exemption asks again, as below, when the function is called
            return torch._disable_dynamo(fn, recursive)
        self.exempted.append(fn)
        return fn


@contextmanager
def deferred_question() -> Iterator[None]:
    """Let torchvision, imported in the block, ask the compiler its one question only when a detector runs."""
    name = f"{COMPILER}.utils"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _is_compile_supported(device_type: Any) -> Any:
    return import_compiler().utils.is_compile_supported(device_type)
