"""Runs that are chosen one after the other, each by what the ones before came to, and how to train them here."""

from functools import partial
from typing import Protocol

from hw1.ablate.child_process import ChildProcess
from hw1.ablate.plan import PlannedRun, train, wait_for_lock
from hw1.errors import Interrupted


class RunQueue(Protocol):
    """Gives the runs, and is told what becomes of them."""

    def take(self) -> PlannedRun | None:
        """Return the next run to train; None if there is none (others may be under way)."""

    def is_unpromising(self, run: PlannedRun) -> bool:
        """Return whether to stop a run that is under way; asked many times a second."""

    def end(self, run: PlannedRun, problem: str | None) -> None:
        """Take up the result of a run that has ended by itself or as unpromising; `problem` is one line, None if it is finished."""


def train_queue(queue: RunQueue) -> None:
    """Train what the queue gives until it has no more, one run after the other.

    Raises:
        Interrupted: After SIGINT or SIGTERM, once the run under way has saved and ended.
    """
    child = ChildProcess()
    with child.listening():
        while child.signum is None and (run := queue.take()) is not None:
            wait_for_lock(run.folder, child)
            problem = train(run, child, partial(queue.is_unpromising, run)).problem
            if child.signum is None:
                queue.end(run, problem)
    if child.signum is not None:
        raise Interrupted(child.signum, "interrupted; the same command continues")
