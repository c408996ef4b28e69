"""Lines for the user on stderr."""

import sys


def say(text: str) -> None:
    """One line for the user, on stderr beside the progress bars."""
    print(text, file=sys.stderr, flush=True)
