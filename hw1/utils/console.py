"""Print lines and progress bars for the user on stderr. A console that is closed, full or gone never ends the work."""

import sys
from contextlib import suppress
from typing import Any

from tqdm import tqdm

CONSOLE_ERRORS = (OSError, ValueError)  # a closed pipe, a full disk, a terminal that is gone; a closed file object


def say(text: str) -> None:
    """Print one line on stderr; do nothing where that fails."""
    with suppress(*CONSOLE_ERRORS):
        print(text, file=sys.stderr, flush=True)


class ProgressBar(tqdm):  # type: ignore[type-arg]  # generic only in its stubs
    """A tqdm bar, shown only on a terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"disable": None, "dynamic_ncols": True, **options})

    def display(self, *arguments: Any, **options: Any) -> None:
        """Draw the bar; do nothing where that fails."""
        with suppress(*CONSOLE_ERRORS):
            super().display(*arguments, **options)

    def close(self) -> None:
        """End the bar; do nothing where that fails."""
        with suppress(*CONSOLE_ERRORS):
            super().close()
