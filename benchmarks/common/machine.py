"""The machine a benchmark ran on: what stands in its result file, and in that file's name. No path, no host name."""

import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hw1.runs.environment import describe_environment
from hw1.runtime.cpu import usable_cores

RESULTS = Path(__file__).parents[1] / "results"


def describe_machine(device: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Processor, versions, commit, date (UTC), and the load average of the minute before: how quiet the machine was.

    `device`: the facts of the accelerator (`benchmarks.training.device.describe_device`), where one is measured.
    """
    env = describe_environment("cpu") | dict(device or {})
    env["packages"] |= {name: version(name) for name in ("numba", "matplotlib")}
    return env | {"usable_cores": usable_cores(), "load_before": round(os.getloadavg()[0], 2)}


def hardware_name(env: dict[str, Any]) -> str:
    """An accelerator's name, or the processor's and how many cores there are to use."""
    return str(env["device"]) if env["device"] != "cpu" else f"{env['cpu']}, {env.get('usable_cores', env['cpu_count'])} cores"


def result_path(benchmark: str, env: dict[str, Any]) -> Path:
    """`results/<benchmark>_<hardware>_<date>.json`."""
    hardware = re.sub(r"[^a-z0-9]+", "-", hardware_name(env).lower()).strip("-")
    return RESULTS / f"{benchmark}_{hardware}_{env['started'][:10]}.json"
