"""Describe what a run was made with: versions, hardware, code.

Command line and environment variables, except HW1_COMMIT, are left out: they may hold secrets.
"""

import hashlib
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hw1 import __version__

PACKAGES = ("torch", "torchvision", "timm", "albumentations", "opencv-python-headless", "numba", "numpy", "pillow", "pydantic", "wandb")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def git_state() -> dict[str, Any] | None:
    """Return the commit of the code and whether tracked files differ from it.

    Outside a checkout HW1_COMMIT states the commit, as in the Docker image; None without it.
    """
    if not _git("ls-files", Path(__file__).name):  # not tracked: the package may be installed inside another repository
        stated = re.fullmatch(r"([0-9a-f]{7,40})(-dirty)?", os.environ.get("HW1_COMMIT", ""))
        return {"commit": stated[1], "modified": bool(stated[2])} if stated else None
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "modified": bool(_git("status", "--porcelain", "--untracked-files=no"))} if commit else None


def code_digest() -> str:
    """Return the SHA-256 of the package's Python files, which are all that training runs; works on machines without git."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package.parent)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe_environment(device: str) -> dict[str, Any]:
    """Return the content of `env.json`.

    Args:
        device: Name of the GPU, or "cpu".
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hw1": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": device,
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
