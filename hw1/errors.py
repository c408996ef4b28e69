"""The two ways a command fails, and the exit code of each."""

import atexit
import gc
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

EXIT_OK = 0
EXIT_USER = 2
EXIT_FAILED = 3
COLLECTOR = gc.get_threshold()
"""How often Python's collector of circular garbage runs by itself."""
RARELY = 50_000
"""New objects after which it runs while a command starts."""
_is_command = False


class UserError(Exception):
    """The user's mistake (recipe, data, run folder): one or more lines, exit code 2, nothing written.

    `problems` holds one message per line, each naming the file and the key or path at fault.
    """

    exit_code = EXIT_USER

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class RunError(Exception):
    """Training or data failed although the recipe was right: exit code 3."""

    exit_code = EXIT_FAILED


class Interrupted(Exception):
    """The run was asked to stop by a signal and has saved its state: exit code 128 + signal number."""

    def __init__(self, signum: int, message: str = "") -> None:
        self.exit_code = 128 + signum
        super().__init__(message)


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Call `main(argv)` and return the exit code; print the message of an error of this module on stderr.

    A console whose reader has gone, or whose disk is full, changes no exit code.

    Args:
        main: A command. Its result is the exit code; None counts as 0.
        argv: Arguments without the program's name.

    Returns:
        The exit code: of `main` or of its error; 130 after Ctrl-C; 3, with the traceback on stderr, after any other exception.
    """
    _begin_command()
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name that is not UTF-8 keeps its bytes
    try:
        return main(argv) or EXIT_OK
    except (UserError, RunError, Interrupted) as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # `| head`: the reader has seen enough
        return EXIT_OK
    except Exception:  # a fault of this program, not of its user: show all of it
        _say(traceback.format_exc())
        return EXIT_FAILED
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush_or_drop(stream)


def is_command() -> bool:
    """Return whether this process is one of the project's own commands, where a start may be shortened, and not a user's program."""
    return _is_command


def _begin_command() -> None:
    """Let Python's collector look for circular garbage rarely until `collect_as_usual`, and not at the exit.

    torch and timm make a million objects when they are imported, none of them garbage, and looking at these again and again takes a fifth
    of the time; so does looking at them once more at the end.
    """
    global _is_command
    if not _is_command:
        _is_command = True
        gc.set_threshold(RARELY, *COLLECTOR[1:])
        atexit.register(_pass_over_objects)


def collect_as_usual() -> None:
    """End what a command began with: let the collector run as often as by itself, but pass over what the start has made.

    Call where the work begins that may leave images or tensors as garbage.
    """
    if gc.get_threshold()[0] == RARELY:
        _pass_over_objects()
        gc.set_threshold(*COLLECTOR)


def _pass_over_objects() -> None:
    """Let the collector pass over the objects there are, unless there is a library that would complain at the exit of what is left."""
    if "triton" not in sys.modules:
        gc.freeze()


def _open_closed_streams() -> None:
    """Open the null device for standard streams that are closed: else the next file, a lock or a checkpoint, would get their number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 - stays open


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        for line in text.splitlines():
            print(harmless(line), file=sys.stderr)


def harmless(text: str) -> str:
    """Return text for a terminal, with its control characters, by which a file's name could command it, written as in Python."""
    return "".join(char if char in "\n\t" or 31 < ord(char) < 127 or ord(char) > 159 else repr(char)[1:-1] for char in text)


def _flush_or_drop(stream: TextIO | None) -> None:
    """Flush the stream, or give up what it holds: Python would try again at its end, and exit with 120."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())  # type: ignore[union-attr]  # it is not None here
            os.close(null)
