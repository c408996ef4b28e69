"""Progress bars on stderr. A terminal that is gone never ends the work."""

from contextlib import suppress
from typing import Any

from tqdm import tqdm

from hw1.utils.console import CONSOLE_ERRORS


class ProgressBar(tqdm):  # type: ignore[type-arg]  # generic only in its stubs
    """A tqdm bar that is shown on a terminal only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"disable": None, "dynamic_ncols": True, **options})

    def display(self, *arguments: Any, **options: Any) -> None:
        """Draw the bar; do nothing where nobody can see it."""
        with suppress(*CONSOLE_ERRORS):
            super().display(*arguments, **options)

    def close(self) -> None:
        """Remove the bar."""
        with suppress(*CONSOLE_ERRORS):
            super().close()
