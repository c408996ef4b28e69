"""Real child processes, real signals."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT

from hw1.ablate.child_process import ChildProcess

CHILD = ROOT / "hw1" / "ablate" / "child_process.py"


def test_the_command_runs_with_its_arguments_and_its_exit_code_is_returned(tmp_path):
    code = f"import sys, pathlib; pathlib.Path({str(tmp_path / 'seen')!r}).write_text(repr(sys.argv[1:])); sys.exit(7)"
    assert ChildProcess().run([sys.executable, "-c", code, "a b", "-x", "c=[1, 2]"]) == 7
    assert (tmp_path / "seen").read_text() == "['a b', '-x', 'c=[1, 2]']"


def test_a_child_that_was_killed_returns_minus_the_signal():
    assert ChildProcess().run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == -signal.SIGKILL


def test_the_child_is_the_command_itself_in_a_group_of_its_own_without_input(tmp_path):
    facts = "f'{os.getpid()} {os.getpgrp()} {os.getppid()} ' + sys.stdin.read()"
    code = f"import os, sys; open({str(tmp_path / 'seen')!r}, 'w').write({facts})"
    assert ChildProcess().run([sys.executable, "-c", code]) == 0
    pid, group, parent, *read = (tmp_path / "seen").read_text().split()
    assert pid == group
    assert (int(parent), read) == (os.getpid(), [])


def test_handlers_are_put_back():
    former = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]

    def fail() -> None:
        with ChildProcess().listening():
            assert signal.getsignal(signal.SIGINT) not in former
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == former


def test_a_signal_before_there_is_a_child_ends_the_next_one():
    runner = ChildProcess()
    with runner.listening():
        os.kill(os.getpid(), signal.SIGINT)
        started = time.monotonic()
        assert runner.run(["/bin/sleep", "60"]) == -signal.SIGTERM
    assert runner.signum == signal.SIGINT
    assert time.monotonic() - started < 30


def test_an_interrupt_of_the_main_thread_ends_the_child():
    """As Ray cancels a task: the handler runs, but no system call is interrupted."""
    runner = ChildProcess()
    threading.Timer(0.5, _thread.interrupt_main).start()
    started = time.monotonic()
    with runner.listening(signal.SIGINT):
        assert runner.run(["/bin/sleep", "60"]) == -signal.SIGTERM
    assert runner.signum == signal.SIGINT
    assert time.monotonic() - started < 30


def test_a_child_that_is_not_wanted_any_more_is_asked_to_end_once():
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 5

    assert ChildProcess().run(["/bin/sleep", "60"], should_stop=should_stop) == -signal.SIGTERM
    assert len(asked) == 6


def test_what_a_child_prints_is_appended_to_a_file_where_one_is_named(tmp_path, capfd):
    code = "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)"
    for _ in range(2):
        assert ChildProcess().run([sys.executable, "-c", code], console=tmp_path / "console.log") == 0
    assert (tmp_path / "console.log").read_text() == "out\nerr\n" * 2
    assert capfd.readouterr() == ("", "")


def test_only_the_signals_asked_for_are_handled():
    former = signal.getsignal(signal.SIGTERM)
    with ChildProcess().listening(signal.SIGINT):
        assert signal.getsignal(signal.SIGTERM) is former


def test_a_child_whose_parent_has_ended_already_does_not_start(tmp_path: Path):
    """Between the fork and the request to be told of its end the parent may end: then its number is another's."""
    done = tmp_path / "done"
    result = subprocess.run([sys.executable, "-I", CHILD, str(os.getppid()), "/bin/touch", done], timeout=60, check=True)
    assert (result.returncode, done.exists()) == (0, False)
    subprocess.run([sys.executable, "-I", CHILD, str(os.getpid()), "/bin/touch", done], timeout=60, check=True)
    assert done.exists()


def test_all_signals_that_stop_are_handled_and_ignored_ones_stay_ignored():
    """As under `nohup`, or in a background job of a shell."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ChildProcess().listening() as runner:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
                assert signal.getsignal(signum) == runner._receive
    finally:
        signal.signal(signal.SIGHUP, former)
