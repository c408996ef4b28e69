"""Progress bars on stderr. A terminal that is gone never ends the work."""

import sys
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from hw1.utils.console import CONSOLE_ERRORS


class ProgressBar(tqdm):  # type: ignore[type-arg]  # generic only in its stubs
    """A tqdm bar that is shown on a terminal only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options = {"disable": True if sys.stderr is None else None, "dynamic_ncols": True, **options}
        try:
            super().__init__(*arguments, **options)
        except CONSOLE_ERRORS:  # it asks the terminal, and flushes both streams
            super().__init__(*arguments, **{**options, "disable": True})

    def display(self, *arguments: Any, **options: Any) -> None:
        """Draw the bar; do nothing where nobody can see it."""
        with suppress(*CONSOLE_ERRORS):
            super().display(*arguments, **options)

    def close(self) -> None:
        """Remove the bar."""
        with suppress(*CONSOLE_ERRORS):
            super().close()
