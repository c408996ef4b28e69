"""Real signals to real processes."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.paths import ROOT

from hw1.utils.signals import ECHO_SECONDS, STOP_SIGNALS, StopRequest

LOOP = """
import sys, time
from hw1.utils.signals import StopRequest

stop = StopRequest()
assert stop() is None
with stop.listening():
    print("ready", flush=True)
    while stop() is None or "stubborn" in sys.argv:
        time.sleep(0.01)
print("saved after", stop(), flush=True)
if "after" in sys.argv:
    time.sleep(60)
"""


class Loop:
    """A process that runs until asked to stop."""

    def __init__(self, *arguments: str, ignored: Sequence[int] = ()) -> None:
        def ignore() -> None:
            for signum in STOP_SIGNALS:  # whatever the tests themselves were started with, as `nohup` ignores SIGHUP
                signal.signal(signum, signal.SIG_IGN if signum in ignored else signal.SIG_DFL)

        command = [sys.executable, "-c", LOOP, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=ignore, **pipes)
        self.read("ready\n")

    def read(self, expected: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == expected

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start():
    loops: list[Loop] = []

    def make(*arguments: str, **options: Any) -> Loop:
        loops.append(Loop(*arguments, **options))
        return loops[-1]

    yield make
    for loop in loops:
        loop.process.kill()
        loop.process.wait()


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_is_a_request(start, signum):
    loop = start()
    loop.process.send_signal(signum)
    code, out, err = loop.end()
    assert (code, out) == (0, f"saved after {signum.value}\n")
    assert err.strip() == "stopping after this step; another signal ends the process at once"


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]
)
def test_a_second_signal_ends_the_process_at_once(start, first, second):
    loop = start("stubborn")
    loop.process.send_signal(first)
    time.sleep(ECHO_SECONDS + 0.3)
    assert loop.process.poll() is None
    loop.process.send_signal(second)
    code, out, _ = loop.end()
    assert (code, out) == (128 + second.value, "")


def test_an_echo_of_the_signal_is_no_second_one(start):
    """As `timeout` sends it to the process and then to the group, and `make` or a launcher passes Ctrl-C on."""
    loop = start("stubborn")
    for _ in range(3):
        loop.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    time.sleep(0.2)
    assert loop.process.poll() is None
    time.sleep(ECHO_SECONDS)
    loop.process.send_signal(signal.SIGTERM)
    assert loop.end()[0] == 143


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, -2)])
def test_afterwards_signals_mean_what_they_did(start, signum, code):
    loop = start("after")
    loop.process.send_signal(signal.SIGTERM)
    loop.read("saved after 15\n")
    loop.process.send_signal(signum)
    assert loop.end()[0] == code  # Python itself ends by SIGINT after a KeyboardInterrupt


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_that_is_ignored_at_the_start_stays_so(start, signum):
    """As `nohup`, `trap ''` and a shell's background jobs have it."""
    other = signal.SIGTERM if signum != signal.SIGTERM else signal.SIGINT
    loop = start(ignored=[signum])
    loop.process.send_signal(signum)
    time.sleep(0.2)
    assert loop.process.poll() is None
    loop.process.send_signal(other)
    assert loop.end()[:2] == (0, f"saved after {other.value}\n")


def test_handlers_are_put_back_even_after_an_error():
    former = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]

    def fail() -> None:
        with StopRequest().listening():
            assert signal.getsignal(signal.SIGINT) != former[0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == former


def test_in_a_notebook_another_signal_raises_and_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw1.utils.signals.ECHO_SECONDS", 0.0)
    with StopRequest(quiet=True, exits=False).listening() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_in_another_thread_no_signal_is_heard_and_no_handler_changed() -> None:
    handlers = []

    def listen() -> None:
        with StopRequest().listening():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_while_the_interpreter_ends_changes_no_exit_code(signum: int) -> None:
    program = (
        f"import atexit, os; atexit.register(os.kill, os.getpid(), {int(signum)}); from hw1.utils.signals import ignore_at_exit\n"
        "ignore_at_exit()\n"
        "raise SystemExit(3)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 3
