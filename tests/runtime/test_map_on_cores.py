"""Work on all cores: its results, its errors, and a console that is gone."""

import errno
import io
import sys
import threading

import pytest

from hw1.runtime.cpu import map_on_cores


class Terminal(io.StringIO):
    """A terminal that fails whenever it is written to or flushed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def test_results_are_in_order() -> None:
    assert map_on_cores(lambda index: index**2, 100, "x") == [index**2 for index in range(100)]
    assert map_on_cores(lambda index: index, 0, "x") == []


def test_an_error_is_raised_once_all_threads_have_ended() -> None:
    before = threading.active_count()

    def work(index: int) -> None:
        if index == 50:
            raise KeyError(index)

    with pytest.raises(KeyError, match="50"):
        map_on_cores(work, 100, "x")
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "stream",
    [Terminal(OSError(errno.ENOSPC, "full")), Terminal(ValueError("closed")), closed(), None],
    ids=["full", "gone", "closed", "none"],
)
def test_a_console_that_is_gone_does_not_end_the_work(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    real = __import__("tqdm").tqdm.__init__
    monkeypatch.setattr("tqdm.std.tqdm.__init__", lambda self, *args, **more: real(self, *args, **more | {"delay": 0, "mininterval": 0}))
    monkeypatch.setattr(sys, "stderr", stream)
    assert map_on_cores(lambda index: index, 100, "x") == list(range(100))
