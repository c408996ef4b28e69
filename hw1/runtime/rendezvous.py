"""The key-value store through which the processes of a run find each other, new at every start."""

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from hw1.errors import RunError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # public, but not in torch's __all__

POLL_SECONDS = 0.02


def open_store(rank: int, world_size: int, timeout: timedelta) -> "Store":
    """Open a store that holds only what the processes of this start write.

    torchrun keeps one store over all its restarts. It may hold addresses of processes that have ended, and machines may count restarts
    differently. Therefore each process draws a name, rank 0 answers every name that it finds with its own, until all others have read
    the answer, and that name is the prefix of the keys of this start.

    Args:
        rank: Of this process.
        world_size: Number of processes.
        timeout: How long to wait for the others.

    Raises:
        RunError: Processes are missing (on rank 0).
        RuntimeError: Rank 0 does not answer (on the others).
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://", timeout=timeout))
    name = uuid.uuid4().hex
    if rank:
        store.set(f"rank {rank}", name)
        store.wait([f"answer to {name}"], timeout)
        name = store.get(f"answer to {name}").decode()
        store.set(f"rank {rank} has read {name}", "")
    else:
        _answer_all(store, name, world_size, timeout)
    shared: Store = PrefixStore(name, store)
    return shared


def _answer_all(store: "Store", name: str, world_size: int, timeout: timedelta) -> None:
    deadline = time.monotonic() + timeout.total_seconds()
    missing = list(range(1, world_size))
    while missing:
        for rank in missing:
            if store.check([f"rank {rank}"]):
                store.set(f"answer to {store.get(f'rank {rank}').decode()}", name)
        time.sleep(POLL_SECONDS)
        missing = [rank for rank in missing if not store.check([f"rank {rank} has read {name}"])]
        if time.monotonic() > deadline:
            raise RunError(f"no sign of rank {', '.join(map(str, missing))}: is it running, and can it reach this machine?")
