"""The connection to a Ray cluster, and the options that ask for one."""

import argparse
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hw1.errors import UserError
from hw1.runtime.cpu import usable_cores
from hw1.utils.text import first_line

LOCAL = "local"
ADDRESS = re.compile(rf"{LOCAL}|auto|[^/\s:=]+:\d+")
CONNECT_SECONDS = 5.0
MAX_RETRIES = 10
"""A run whose worker or node dies more often than that, in one call, has failed: it may be what kills them."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_task_oom_retries": str(MAX_RETRIES),  # Ray counts workers that it kills for memory apart, and without a limit
    # Ray asks a quiet worker every 5 minutes whether its machine is there, and takes 7 to notice that one is not.
    "RAY_grpc_client_keepalive_time_ms": "30000",
    "RAY_grpc_client_keepalive_timeout_ms": "30000",
}
"""Of this process alone, for what the user has not set; some are read when Ray is imported."""


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command whose runs a Ray cluster can train; `check_options` checks them."""
    where = "train on a Ray cluster: auto (of which this machine is one) or HOST:PORT; without ADDRESS on the GPUs of this machine"
    parser.add_argument("--ray", nargs="?", const=LOCAL, metavar="ADDRESS", help=where)
    parser.add_argument("--cpus-per-run", type=int, metavar="N", help="with --ray; default: a GPU's part of its machine's, else all")
    parser.add_argument("--gpus-per-run", type=float, metavar="N", help="with --ray, 0 to 1, as 0.5; default: 1 where there are GPUs")


def check_options(address: str | None, cpus: int | None, gpus: float | None) -> None:
    """Check the command-line options without touching Ray; None is an option that was not given.

    Raises:
        UserError: For values that are not possible, and where Ray is not installed.
    """
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
    """Connect to a cluster and yield the module `ray`.

    Args:
        address: HOST:PORT, "auto", or LOCAL for a cluster of this machine alone that lasts as long as the block.

    Raises:
        UserError: Where there is no cluster.
    """
    _check_reachable(address)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR"}
    if address == LOCAL:  # nothing large passes through Ray's object store
        options |= {"num_cpus": usable_cores(), "object_store_memory": 80 * 2**20, "include_dashboard": False}
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"--ray {address}: {first_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Fail at once where nothing answers; Ray itself would try for minutes."""
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"--ray {address}: nothing answers there: {error}") from None
