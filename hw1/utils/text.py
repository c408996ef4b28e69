"""Text for messages: file names, which need not be UTF-8 (Python holds other bytes as lone surrogates), and errors on one line."""

import re
from collections.abc import Iterable


def to_bytes(text: str) -> bytes:
    """Encode text for a file; names that are not UTF-8 keep their bytes."""
    return text.encode(errors="surrogateescape")


def showable(text: str) -> str:
    """Return the text for a figure or a page, with a question mark for each byte that is not UTF-8."""
    return text.encode(errors="replace").decode()


def printable(path: object) -> str:
    """Return the path for a one-line message: quoted and escaped if it holds a character that does not print."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def first_line(error: BaseException, width: int = 120) -> str:
    """Return the first line of an error's message, cut to `width` characters; its type where it has none."""
    return (_uncoloured(error).strip().splitlines() or [type(error).__name__])[0][:width]


def one_line(error: BaseException, width: int = 300) -> str:
    """Return an error's type and message on one line, the message cut to `width` characters."""
    text = " ".join(_uncoloured(error).split())
    return f"{type(error).__name__}: {text[:width]}{'...' if len(text) > width else ''}".removesuffix(": ")


def _uncoloured(error: BaseException) -> str:
    """Return the message without the terminal's control sequences, of which torch's have some."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))


def some_of(names: Iterable[str], num: int = 5) -> str:
    """Return the first `num` names, in printable form, and the number of the others, as in "a, b and 3 more"."""
    names = list(names)
    more = len(names) - num
    return ", ".join(map(printable, names[:num])) + (f" and {more} more" if more > 0 else "")
