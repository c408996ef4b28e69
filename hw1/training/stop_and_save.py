"""When to stop and when to save: a signal, a clock and a count of steps, agreed over the processes."""

import time
from collections.abc import Callable

from hw1.config.recipe import CheckpointConfig
from hw1.runtime import distributed as dist


class StopAndSave:
    """Decide at each step whether to stop and whether to save, alike in all processes.

    Args:
        stop: Returns the signal by which this process was asked to stop, or None.
        config: How often to save.
        is_over: Returns whether the time of `train.hours` is over.
    """

    def __init__(self, stop: Callable[[], int | None], config: CheckpointConfig, is_over: Callable[[], bool] = lambda: False) -> None:
        self.signum: int | None = None
        """The signal by which to stop, if any, as of the last `sync`."""
        self.is_time_over = False
        """Whether the time is over, as of the last `sync`."""
        self._is_over = is_over
        self._stop = stop
        self._config = config
        self._is_due = False
        self._saved_at = time.monotonic()
        self._agreement = dist.AsyncMax()

    def sync(self) -> int | None:
        """Learn whether to stop and whether the clock asks for a checkpoint; return the signal by which to stop, if any.

        Several processes learn at each call what was told at the call before, so that none waits for another, and all stop and save
        at the same step.
        """
        is_due = time.monotonic() - self._saved_at >= self._config.every_minutes * 60
        if dist.world_size() == 1:
            self.signum, self._is_due, self.is_time_over = self._stop(), is_due, self._is_over()
            return self.signum
        is_due &= dist.is_main()
        if is_due:
            self.saved()  # said once
        signum, due, over = self._agreement(self._stop() or 0, is_due, self._is_over())
        self.signum, self._is_due, self.is_time_over = signum or None, bool(due), bool(over)
        return self.signum

    def is_save_due(self, updates: int) -> bool:
        """Return whether to save after so many optimizer steps, by the recipe's clock or count, as of the last `sync`."""
        every = self._config.every_steps
        return self._is_due or (every is not None and updates % every == 0)

    def saved(self) -> None:
        """Start the clock anew."""
        self._saved_at = time.monotonic()
