"""Import timm without what it brings beside its models: torch's compiler and wandb's client, two seconds of every command's start.

In a user's own program, which may want either, timm is imported as it comes.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hw1.errors import is_command
from hw1.utils.deferred_compiler import defer_compiler, deferred_question

TRACKER = "wandb"


@contextmanager
def without_tracker() -> Iterator[None]:
    """Hide wandb from what is imported in the block: a helper of timm's, which nothing here calls, would import it."""
    if TRACKER in sys.modules:
        yield
        return
    sys.modules[TRACKER] = None  # type: ignore[assignment]  # Python's own way: as if it were not installed
    try:
        yield
    finally:
        del sys.modules[TRACKER]


if is_command():
    defer_compiler()
    with deferred_question(), without_tracker():
        import timm  # noqa: F401
