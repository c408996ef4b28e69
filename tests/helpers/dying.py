"""A process that dies in the middle of its work: functions that raise once they have been called often enough, all together."""

from collections.abc import Callable
from typing import Any


class Dying:
    """Wraps functions; the call after the first `survived` of them, counted over all, raises `error` in place of what it should do."""

    def __init__(self, survived: int, error: type[BaseException]) -> None:
        self.survived, self.error, self.count = survived, error, 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.count += 1
            if self.count > self.survived:
                raise self.error
            return function(*arguments, **keywords)

        return call
