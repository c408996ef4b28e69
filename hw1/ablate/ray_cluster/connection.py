"""The connection to a Ray cluster; the options that ask for one."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hw1.errors import UserError
from hw1.runtime.cpu import usable_cores

LOCAL = "local"
ADDRESS = re.compile(rf"{LOCAL}|auto|[^/\s:=]+:\d+")
CONNECT_SECONDS = 5.0
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
WORKER_SETTINGS = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Else a worker that Ray ends would kill its run, which could not save any more. A run ends by itself when its worker does."""


def check_options(address: str | None, cpus: int | None, gpus: float | None) -> None:
    """Raises `UserError` for what cannot be asked for (None: an option not given), and where Ray is not installed; Ray is not touched."""
    if address is None:
        if cpus is not None or gpus is not None:
            raise UserError("--cpus-per-run, --gpus-per-run: only with --ray")
        return
    if cpus is not None and cpus < 1:
        raise UserError(f"--cpus-per-run: at least 1, got {cpus}")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--gpus-per-run: 0 to 1, as a run uses one GPU, got {gpus:g}")
    if not ADDRESS.fullmatch(address):
        raise UserError(f"--ray: {address}: no address; auto or HOST:PORT on a machine of the cluster, or none for this machine alone")
    if find_spec("ray") is None:
        raise UserError("--ray: Ray is not installed; pip install -r requirements-ray.txt")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster, or for LOCAL to one of this machine alone, which lasts as long as the block.

    Raises `UserError` where there is none.
    """
    _check_reachable(address)
    for name, value in SETTINGS.items():  # of which some are read when Ray is imported
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR", "runtime_env": {"env_vars": WORKER_SETTINGS}}
    if address == LOCAL:  # nothing large passes through Ray's object store
        options |= {"num_cpus": usable_cores(), "object_store_memory": 80 * 2**20, "include_dashboard": False}
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"--ray {address}: {str(error).strip().partition(chr(10))[0]}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"--ray {address}: nothing answers there: {error}") from None
