"""Several processes that train one model together, started by torchrun: their ranks, collectives, and errors that all raise alike.

All processes must call the collectives (`gather`, `all_reduce_`, `all_or_raise`, `run_on_rank0`, ...) in the same order. In a run of one
process they return at once, and torch is not even imported.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hw1.errors import EXIT_USER, Interrupted, RunError, UserError
from hw1.runtime.rendezvous import open_store

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=10)
"""How long a step waits for a process that hangs; a process that dies is noticed at once, by its closed connection."""
SETUP_TIMEOUT = timedelta(hours=6)
"""How long others wait while one process prepares what all need: a cache of decoded images, a download, a checkpoint."""


@dataclass(frozen=True)
class ProcessInfo:
    """Rank of a process, and number of processes, in the run and (`local_`) on its machine; ranks count from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


@dataclass(frozen=True)
class Failure:
    """An error of `hw1.errors`, in a form that processes can exchange."""

    exit_code: int
    lines: list[str]


_process = ProcessInfo()
_setup_group: Any = None
"""Process group with `SETUP_TIMEOUT`; torch's default group has `STEP_TIMEOUT`."""


def rank() -> int:
    """Return this process' number in the run, from 0."""
    return _process.rank


def world_size() -> int:
    """Return the number of processes of the run; 1 outside of `process_group`."""
    return _process.world_size


def local_rank() -> int:
    """Return this process' number on its machine, from 0."""
    return _process.local_rank


def local_world_size() -> int:
    """Return the number of the run's processes on this machine."""
    return _process.local_world_size


def is_main() -> bool:
    """Return whether this is rank 0, the process that prints and writes files."""
    return _process.rank == 0


def is_restart() -> bool:
    """Return whether torchrun has started this process in place of one that failed (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun has started (environment variables RANK, WORLD_SIZE, ...); do nothing in a run of one.

    Within the block only rank 0 prints. CUDA tensors travel by NCCL, everything else by gloo.

    Raises:
        RunError: Other processes cannot be reached, or have died. The process that died, or torchrun, says more.
    """
    global _process, _setup_group
    process = _process_info(os.environ)
    if process.world_size == 1:
        yield
        return
    import torch
    import torch.distributed as td

    with _lost_processes_as_run_errors(process), ExitStack() as stack:
        has_nccl = torch.cuda.is_available() and td.is_nccl_available()
        store = open_store(process.rank, process.world_size, STEP_TIMEOUT)
        backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
        td.init_process_group(backend, timeout=STEP_TIMEOUT, store=store, rank=process.rank, world_size=process.world_size)
        _setup_group = td.new_group(backend="gloo", timeout=SETUP_TIMEOUT)
        _process = process
        if process.rank:
            null = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(null))
            stack.enter_context(redirect_stderr(null))
        try:
            yield
            td.destroy_process_group()
        finally:
            _process, _setup_group = ProcessInfo(), None


def _process_info(env: Mapping[str, str]) -> ProcessInfo:
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        return ProcessInfo()
    names = {"rank": "RANK", "world_size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_world_size": "LOCAL_WORLD_SIZE"}
    return ProcessInfo(**{field: int(env[name]) for field, name in names.items() if name in env})


@contextmanager
def _lost_processes_as_run_errors(process: ProcessInfo) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if process.rank == 0:
            raise
        raise Interrupted(signal.SIGINT) from None
    except RuntimeError as error:
        import torch.distributed as td

        text = " ".join(str(error).split())
        if not isinstance(error, td.DistError) and "gloo" not in text.lower():
            raise
        message = f"another process of this run has died or cannot be reached; the same command continues ({text[:200]})"
        raise RunError("" if process.rank else message) from error


def gather(item: T) -> list[T]:
    """Return the items of all processes, by rank; they must be picklable."""
    return _gather(item, None)


def _gather(item: T, group: Any) -> list[T]:
    if world_size() == 1:
        return [item]
    import torch.distributed as td

    items: list[Any] = [None] * world_size()
    td.all_gather_object(items, item, group=group)
    return items


def all_reduce_(tensor: "Tensor") -> None:
    """Replace a tensor, in place, by its sum over all processes, with the same bits in each. Do not wait for a GPU."""
    if world_size() > 1:
        import torch.distributed as td

        td.all_reduce(tensor)


class AsyncMax:
    """Maximum over all processes of small numbers, exchanged at every step without waiting for the slowest process."""

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Any] | None = None

    def __call__(self, *numbers: int) -> list[int]:
        """Start the exchange of this process' numbers and return the maxima of the previous call, zeros at first."""
        import torch
        import torch.distributed as td

        previous = self._pending
        tensor = torch.tensor(numbers)
        self._pending = tensor, td.all_reduce(tensor, td.ReduceOp.MAX, async_op=True)
        if previous is None:
            return [0] * len(numbers)
        maxima, work = previous
        work.wait()
        return maxima.tolist()


def all_or_raise(work: Callable[[], T]) -> T:
    """Return `work()` of this process, once it has succeeded in all.

    Args:
        work: Calls no collective.

    Raises:
        UserError: `work()` failed in a process; all processes raise the error of the lowest rank that failed. Rank 0's error has the
            lines of all processes, the others' have none, so that each line is printed once.
        RunError: Likewise.
        Interrupted: Likewise.
    """
    if world_size() == 1:
        return work()
    result, failure = _attempt(work)
    _raise_in_all(_gather(failure, _setup_group))
    return result  # type: ignore[return-value]  # not None: there was no failure


def run_on_rank0(work: Callable[[], T]) -> T:
    """Run `work()` on rank 0 only and return a copy of its result in all processes.

    Raises:
        UserError: As `all_or_raise`.
        RunError: As `all_or_raise`.
        Interrupted: As `all_or_raise`.
    """
    if world_size() == 1:
        return work()
    import torch.distributed as td

    outcome: list[Any] = [_attempt(work) if is_main() else None]
    td.broadcast_object_list(outcome, src=0, group=_setup_group)
    [(result, failure)] = outcome
    _raise_in_all([failure])
    return result  # type: ignore[no-any-return]  # a copy of rank 0's T


def first_on_each_machine(work: Callable[[], T]) -> T:
    """Do `all_or_raise` in two turns, so that other processes find the caches that the first process of their machine has filled.

    Raises:
        UserError: As `all_or_raise`.
        RunError: As `all_or_raise`.
        Interrupted: As `all_or_raise`.
    """
    is_first = local_rank() == 0
    first_result: T = all_or_raise(work if is_first else _nothing)
    other_result: T = all_or_raise(_nothing if is_first else work)
    return first_result if is_first else other_result


def _nothing() -> Any:
    return None


def require_same(facts: dict[str, str]) -> None:
    """Check that facts are the same in all processes.

    Args:
        facts: Values by the recipe key that they belong to.

    Raises:
        UserError: In all processes, with a line for each fact that differs.
    """
    all_facts = gather(facts)
    problems = []
    for key, expected in all_facts[0].items():
        other = next((number for number, each in enumerate(all_facts) if each[key] != expected), None)
        if other is not None:
            values = f"{expected} to rank 0, {all_facts[other][key]} to rank {other}"
            problems.append(f"{key}: must mean the same to all processes, but is {values}")
    if problems:
        _raise_in_all([Failure(EXIT_USER, problems)])


def _attempt(work: Callable[[], T]) -> tuple[T | None, Failure | None]:
    try:
        return work(), None
    except (UserError, RunError, Interrupted) as error:
        return None, Failure(error.exit_code, str(error).splitlines())


def _raise_in_all(failures: Sequence[Failure | None]) -> None:
    """Raise in every process if there is a failure; `failures`, by rank, are the same in all processes."""
    by_rank = {number: failure for number, failure in enumerate(failures) if failure is not None}
    if not by_rank:
        return
    printed: dict[str, str] = {}  # by the line itself: each is printed once
    for number, failure in by_rank.items():
        for line in failure.lines:
            printed.setdefault(line, f"rank {number}: {line}" if number else line)
    lines = list(printed.values()) if is_main() else []
    exit_code = next(iter(by_rank.values())).exit_code
    if exit_code == EXIT_USER:
        raise UserError(*lines)
    if exit_code > 128:
        raise Interrupted(exit_code - 128, "\n".join(lines))
    raise RunError("\n".join(lines))
