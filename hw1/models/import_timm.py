"""Import timm without what it brings beside its models: torch's compiler and wandb's client, a second and a half of every start.

torchvision, which timm's layers need, imports the compiler for a question that only detectors put, and one of timm's models to exempt a
function from it; one of timm's optimizers compiles parts of itself; one of timm's helpers writes to wandb, which nothing here calls.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
TRACKER = "wandb"


@contextmanager
def without_compiler_and_tracker() -> Iterator[None]:
    """Let modules that are imported in the block do without torch's compiler and wandb; what is imported already stays as it is.

    Both can be imported as ever after the block.
    """
    stand_ins: dict[str, ModuleType | None] = {}
    if COMPILER not in sys.modules:
        utils = ModuleType(f"{COMPILER}.utils", "Stands in for the module of this name.")
        utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        package = ModuleType(COMPILER, "Stands in for the package of this name.")
        package.disable = _disable  # type: ignore[attr-defined]
        stand_ins |= {COMPILER: package, f"{COMPILER}.utils": utils}
    if TRACKER not in sys.modules:
        stand_ins[TRACKER] = None  # as if it were not installed
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name, module) is module:
                sys.modules.pop(name, None)


def _disable(function: Any = None, recursive: bool = True, **_: Any) -> Any:
    """Exempt a function from compiling as torch does for its own: it imports the compiler when the function is first called."""
    return torch._disable_dynamo(function, recursive)


def _is_compile_supported(device_type: Any) -> Any:
    """Ask torch's compiler, which is imported for it."""
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)  # type: ignore[no-untyped-call]


with without_compiler_and_tracker():
    import timm  # noqa: F401
