"""Several processes that train one model together, as torchrun starts them: which one this is, and how all come to one answer.

What talks to the others is to be called by all of them, in the same order. Where there is one process only, everything here does what is
obvious then, and torch is not even imported.
"""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hw1.errors import EXIT_USER, Interrupted, RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Failure = tuple[int, list[str]]
"""Exit code and the lines for the user."""

STEP_TIMEOUT = timedelta(minutes=10)
"""How long a process that hangs is waited for within a step; one that dies is noticed at once, by its closed connection."""
START_TIMEOUT = timedelta(hours=6)
"""The same where one prepares something that all need: a cache of decoded images, a download, a checkpoint."""


@dataclass(frozen=True)
class ProcessInfo:
    """A process among those of the run, and of its machine (`local_`); ranks count from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


_process = ProcessInfo()
_patient_group: Any = None


def rank() -> int:
    return _process.rank


def world_size() -> int:
    """Processes of the run; 1 outside of `group`."""
    return _process.world_size


def local_rank() -> int:
    return _process.local_rank


def local_world_size() -> int:
    """Processes of the run on this machine."""
    return _process.local_world_size


def is_main() -> bool:
    """Whether this process is the one that speaks and writes: rank 0."""
    return _process.rank == 0


def is_restart() -> bool:
    """Whether torchrun has started this process in place of one that failed (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def group() -> Iterator[None]:
    """Joins the processes that torchrun has started together with this one (torch's variables RANK, WORLD_SIZE, ...); alone, does nothing.

    Inside, only rank 0 prints. CUDA tensors travel by NCCL, all else by gloo. Raises `RunError` where the others are not found, or are lost
    on the way: the one that died, or torchrun, says more.
    """
    global _process, _patient_group
    place = _process_info(os.environ)
    if place.world_size == 1:
        yield
        return
    import torch
    import torch.distributed as td

    with _naming_lost_processes(place), ExitStack() as stack:
        both = torch.cuda.is_available() and td.is_nccl_available()
        where: dict[str, Any] = {"store": _rendezvous(place), "rank": place.rank, "world_size": place.world_size}
        td.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=STEP_TIMEOUT, **where)
        _patient_group = td.new_group(backend="gloo", timeout=START_TIMEOUT)
        _process = place
        if place.rank:
            null = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(null))
            stack.enter_context(redirect_stderr(null))
        try:
            yield
            td.destroy_process_group()
        finally:
            _process, _patient_group = ProcessInfo(), None


def _process_info(env: "os._Environ[str] | dict[str, str]") -> ProcessInfo:
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        return ProcessInfo()
    names = {"rank": "RANK", "world_size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_world_size": "LOCAL_WORLD_SIZE"}
    return ProcessInfo(**{field: int(env[name]) for field, name in names.items() if name in env})


def _rendezvous(place: ProcessInfo) -> Any:
    """The store by which they find each other, empty but for what processes of this very start write.

    torchrun keeps one for all its restarts, with the addresses of processes that are gone, and machines may count restarts differently. So
    each process leaves a name that no other ever had; rank 0 answers every name that it finds with its own, until all have read that.
    """
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://", timeout=STEP_TIMEOUT))
    name, deadline = uuid.uuid4().hex, time.monotonic() + STEP_TIMEOUT.total_seconds()
    if place.rank:
        store.set(f"rank {place.rank}", name)
        store.wait([f"answer to {name}"], STEP_TIMEOUT)
        name = store.get(f"answer to {name}").decode()
        store.set(f"rank {place.rank} has read {name}", "")
        return PrefixStore(name, store)
    missing = list(range(1, place.world_size))
    while missing:
        for rank in missing:
            if store.check([f"rank {rank}"]):
                store.set(f"answer to {store.get(f'rank {rank}').decode()}", name)
        time.sleep(0.02)
        missing = [rank for rank in missing if not store.check([f"rank {rank} has read {name}"])]
        if time.monotonic() > deadline:
            raise RunError(f"no sign of rank {', '.join(map(str, missing))}: is it running, and can it reach this machine?")
    return PrefixStore(name, store)


@contextmanager
def _naming_lost_processes(place: ProcessInfo) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if place.rank == 0:
            raise
        raise Interrupted(signal.SIGINT) from None
    except RuntimeError as error:
        import torch.distributed as td

        text = " ".join(str(error).split())
        if not isinstance(error, td.DistError) and "gloo" not in text.lower():
            raise
        message = f"another process of this run has died or cannot be reached; the same command continues ({text[:200]})"
        raise RunError("" if place.rank else message) from error


def all_or_raise(work: Callable[[], T]) -> T:
    """`work()` of every process, once it has succeeded in all.

    Else all raise the error of the first one in which it failed (`UserError`, `RunError`), of which rank 0's has the lines of all, and the
    others' none: they are printed once. `work` must not talk to the others itself.
    """
    if world_size() == 1:
        return work()
    result, failure = _attempt(work)
    _raise_together(gather(failure, patient=True))
    return result  # type: ignore[return-value]  # there was no failure


def run_on_rank0(work: Callable[[], T]) -> T:
    """`work()` of rank 0 alone, whose result, a copy of it, all get; errors as of `all_or_raise`."""
    if world_size() == 1:
        return work()
    import torch.distributed as td

    outcome: list[Any] = list(_attempt(work)) if is_main() else [None, None]
    td.broadcast_object_list(outcome, src=0, group=_patient_group)
    result, failure = outcome
    _raise_together([failure])
    return result


def first_on_each_machine(work: Callable[[], T]) -> T:
    """`all_or_raise` in two turns: the first process of each machine, then its others, which find what that one has left in caches."""
    is_first = local_rank() == 0
    in_turn_1 = all_or_raise(work if is_first else _nothing)
    in_turn_2 = all_or_raise(_nothing if is_first else work)
    return in_turn_1 if is_first else in_turn_2


def _nothing() -> Any:
    return None


def require_same(facts: dict[str, str]) -> None:
    """Raises `UserError` in all processes where a fact, by the recipe key that it belongs to, is not the same in all of them."""
    everyone = gather(facts)
    problems = []
    for key, expected in everyone[0].items():
        other = next((number for number, each in enumerate(everyone) if each[key] != expected), None)
        if other is not None:
            problems.append(
                f"{key}: must mean the same to all processes, but is {expected} to rank 0, {everyone[other][key]} to rank {other}"
            )
    if problems:
        _raise_together([(EXIT_USER, problems)])


def gather(item: T, *, patient: bool = False) -> list[T]:
    """The items of all processes, by rank; anything that can be pickled."""
    if world_size() == 1:
        return [item]
    import torch.distributed as td

    items: list[Any] = [None] * world_size()
    td.all_gather_object(items, item, group=_patient_group if patient else None)
    return items


def all_reduce_(tensor: "Tensor") -> None:
    """Makes a tensor, in place, its sum over all processes: the same bits in each. Does not wait for a GPU."""
    if world_size() > 1:
        import torch.distributed as td

        td.all_reduce(tensor)


class AsyncMax:
    """Small numbers of which all processes learn the largest, over and over, without waiting for each other at every step."""

    def __init__(self) -> None:
        self._under_way: tuple[Tensor, Any] | None = None

    def __call__(self, *numbers: int) -> list[int]:
        """Takes this process' numbers; returns the largest that any process gave at the call before, zeros at first."""
        import torch
        import torch.distributed as td

        before = self._under_way
        tensor = torch.tensor(numbers)
        self._under_way = tensor, td.all_reduce(tensor, td.ReduceOp.MAX, async_op=True)
        if before is None:
            return [0] * len(numbers)
        before[1].wait()
        return before[0].tolist()


def _attempt(work: Callable[[], T]) -> tuple[T | None, Failure | None]:
    try:
        return work(), None
    except (UserError, RunError, Interrupted) as error:
        return None, (error.exit_code, str(error).splitlines())


def _raise_together(failures: list[Failure | None]) -> None:
    """Raises in every process where there is a failure; `failures` by rank, the same in all."""
    found = [(number, *failure) for number, failure in enumerate(failures) if failure is not None]
    if not found:
        return
    lines: dict[str, str] = {}  # what is printed by what was said, each thing once
    for number, _, said in found:
        for line in said:
            lines.setdefault(line, f"rank {number}: {line}" if number else line)
    shown = list(lines.values()) if is_main() else []
    code = found[0][1]
    if code == EXIT_USER:
        raise UserError(*shown)
    if code > 128:
        raise Interrupted(code - 128, "\n".join(shown))
    raise RunError("\n".join(shown))
