"""The two ways a command fails, and the exit code of each."""

import io
import sys
import traceback
from collections.abc import Callable, Sequence

EXIT_OK = 0
EXIT_USER = 2
EXIT_FAILED = 3


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
    """Calls `main(argv)` and turns the errors above into their message on stderr and their exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name that is not UTF-8 keeps its bytes
    try:
        return main(argv) or EXIT_OK
    except (UserError, RunError, Interrupted) as error:
        for line in str(error).splitlines():
            print(line, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:  # a fault of this program, not of its user: show all of it
        traceback.print_exc()
        return EXIT_FAILED
