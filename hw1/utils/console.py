"""Lines for the user. A console that is closed, full or gone never ends the work."""

import sys
from contextlib import suppress

from hw1.errors import harmless

CONSOLE_ERRORS = (OSError, ValueError)  # a closed pipe, a full disk, a terminal that is gone; a closed file object


def say(text: str) -> None:
    """Print one line on stderr; do nothing where nobody can read it."""
    with suppress(*CONSOLE_ERRORS):
        print(harmless(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print one line of a result on stdout; do nothing where nobody can read it, as the result is on disk."""
    with suppress(*CONSOLE_ERRORS):
        print(harmless(text), flush=True)
