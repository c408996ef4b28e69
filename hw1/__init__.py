"""hw1: a config-driven recipe for training image classifiers on timm."""

import sys

try:
    import fcntl  # noqa: F401
except ImportError:  # before anything else of the package is imported, so that every command and script says it
    print("hw1: needs Linux or macOS; on Windows it runs inside WSL2: https://learn.microsoft.com/windows/wsl/install", file=sys.stderr)
    raise SystemExit(2) from None

__version__ = "0.2.0"
