"""Lines and progress bars for the user, on stderr. A console that is closed, full or gone never ends the work."""

import sys
from contextlib import suppress
from typing import Any

from tqdm import tqdm

CONSOLE_ERRORS = (OSError, ValueError)  # a closed pipe, a full disk, a terminal that is gone; a closed file object


def say(text: str) -> None:
    """Print one line on stderr; do nothing where nobody can read it."""
    with suppress(*CONSOLE_ERRORS):
        print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print one line of a result on stdout; do nothing where nobody can read it, as the result is on disk."""
    with suppress(*CONSOLE_ERRORS):
        print(text, flush=True)


class ProgressBar(tqdm):  # type: ignore[type-arg]  # generic only in its stubs
    """A tqdm bar that is shown on a terminal only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"disable": None, "dynamic_ncols": True, **options})

    def display(self, *arguments: Any, **options: Any) -> None:
        with suppress(*CONSOLE_ERRORS):
            super().display(*arguments, **options)

    def close(self) -> None:
        with suppress(*CONSOLE_ERRORS):
            super().close()
