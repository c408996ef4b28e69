"""Errors that end a command, and their exit codes."""

import io
import sys
import traceback
from collections.abc import Callable, Sequence

EXIT_OK = 0
EXIT_USER = 2
EXIT_FAILED = 3


class UserError(Exception):
    """The user made a mistake (recipe, data, run folder): exit code 2, nothing written.

    Args:
        *problems: Messages of one line, each naming the file and the key or path at fault.
    """

    exit_code = EXIT_USER

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class RunError(Exception):
    """Training or data failed although the recipe is valid: exit code 3."""

    exit_code = EXIT_FAILED


class Interrupted(Exception):
    """A signal asked the run to stop, and its state is saved: exit code 128 + signal number."""

    def __init__(self, signum: int, message: str = "") -> None:
        self.exit_code = 128 + signum
        super().__init__(message)


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Call `main(argv)` and return the exit code; print the message of an error of this module on stderr.

    Args:
        main: A command. Its result is the exit code; None counts as 0.
        argv: Arguments without the program's name.

    Returns:
        The exit code: of `main` or of its error; 130 after Ctrl-C; 3, with the traceback on stderr, after any other exception.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names that are not UTF-8 keep their bytes
    try:
        return main(argv) or EXIT_OK
    except (UserError, RunError, Interrupted) as error:
        for line in str(error).splitlines():
            print(line, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:  # a fault of this program: show all of it
        traceback.print_exc()
        return EXIT_FAILED
