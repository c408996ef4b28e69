"""hw1: a config-driven recipe for training image classifiers on timm.

`hw1.train`, `hw1.load` and `hw1.Run` are those of `hw1.api`, which is imported only once one of them is asked for.
"""

import sys
from typing import TYPE_CHECKING, Any

try:
    import fcntl  # noqa: F401
except ImportError:  # before anything else of the package is imported, so that every command and script says it
    print("hw1: needs Linux or macOS; on Windows it runs inside WSL2: https://learn.microsoft.com/windows/wsl/install", file=sys.stderr)
    raise SystemExit(2) from None

if TYPE_CHECKING:
    from hw1.api import Run, load, train

__version__ = "0.2.0"
__all__ = ["Run", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hw1 import api

        return getattr(api, name)
    raise AttributeError(f"module 'hw1' has no attribute {name!r}")
