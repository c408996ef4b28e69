"""What C libraries print: it comes to the thread that caused it, everything else goes where it went."""

import ctypes
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hw1.utils.library_messages import COLLECTED, LibraryMessages

pytestmark = pytest.mark.skipif(not COLLECTED, reason="needs glibc")
libc = ctypes.CDLL(None)
libc.fputs.argtypes = (ctypes.c_char_p, ctypes.c_void_p)


def print_in_c(text: str) -> None:
    """Print as a library does: to what the C variable names at this moment, with the interpreter's lock released."""
    libc.fputs(text.encode(), ctypes.c_void_p.in_dll(libc, "stderr"))


def test_messages_are_collected_and_only_inside(capfd: pytest.CaptureFixture[str]) -> None:
    print_in_c("before\n")
    with LibraryMessages() as messages:
        print_in_c("one\n")
        print_in_c("two\n")
    print_in_c("after\n")
    assert messages.text == "one\ntwo\n"
    assert capfd.readouterr().err == "before\nafter\n"
    with LibraryMessages() as messages:
        pass
    assert messages.text == ""


def test_an_error_inside_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), LibraryMessages():
        raise KeyError
    print_in_c("after\n")
    assert capfd.readouterr().err == "after\n"


def test_each_thread_gets_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    barrier = threading.Barrier(4)

    def collect(number: int) -> str:
        barrier.wait()
        with LibraryMessages() as messages:
            for _ in range(200):
                print_in_c(f"{number};")
        return messages.text

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(collect, range(4))) == [f"{number};" * 200 for number in range(4)]
    assert capfd.readouterr().err == ""


def test_what_another_thread_prints_meanwhile_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with LibraryMessages() as messages:
        thread = threading.Thread(target=print_in_c, args=("of another\n",))
        thread.start()
        thread.join()
        print_in_c("ours\n")
    assert messages.text == "ours\n"
    assert capfd.readouterr().err == "of another\n"


def test_a_process_forked_meanwhile_begins_anew(capfd: pytest.CaptureFixture[str]) -> None:
    """Another thread collects, and may hold the lock, when the process forks."""
    with LibraryMessages():
        child = os.fork()
        if child == 0:
            print_in_c("of the child\n")
            with LibraryMessages() as messages:
                print_in_c("collected\n")
            os._exit(0 if messages.text == "collected\n" else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0
    assert capfd.readouterr().err == "of the child\n"


HOLDING_THE_INTERPRETER = """
import ctypes
from concurrent.futures import ThreadPoolExecutor
from hw1.utils.library_messages import LibraryMessages

libraries = [ctypes.CDLL(None), ctypes.PyDLL(None)]  # the second holds the interpreter's lock while it prints
for library in libraries:
    library.fputs.argtypes = (ctypes.c_char_p, ctypes.c_void_p)

def collect(number):
    with LibraryMessages() as messages:
        for _ in range(3000):
            libraries[number % 2].fputs(b"x", ctypes.c_void_p.in_dll(libraries[0], "stderr"))
    return len(messages.text)

with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(collect, range(4))))
"""


def test_libraries_that_print_with_the_interpreter_held_do_not_wait_for_each_other() -> None:
    process = subprocess.run([sys.executable, "-c", HOLDING_THE_INTERPRETER], capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout == "[3000, 3000, 3000, 3000]\n"
