"""Text for messages, pages and tables: errors on one line, and file names, which need not be UTF-8 nor print.

Python holds bytes that are no UTF-8 as lone surrogates.
"""

import re
from collections.abc import Iterable
from typing import Any

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
CONTROLS = "".join(map(chr, (*range(32), *range(127, 160)))) + "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Control characters, those that write text backwards included."""
_SHOWN = {ord(char): "?" for char in CONTROLS if char not in "\n\t"}
_ON_ONE_LINE = _SHOWN | {ord(char): " " for char in f"{LINE_ENDS}\t"}
_ESCAPED = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in map(ord, f"{CONTROLS}\u2028\u2029")}
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def to_bytes(text: str) -> bytes:
    """Encode text for a file; names that are not UTF-8 keep their bytes."""
    return text.encode(errors="surrogateescape")


def showable(text: str) -> str:
    """Return the text for a figure or a page, with a question mark for each byte that is not UTF-8 and each control character."""
    return text.encode(errors="replace").decode().translate(_SHOWN)


def on_one_line(text: str) -> str:
    """Return the text for one line of a figure or a page: `showable`, with a space for each line break."""
    return text.translate(_ON_ONE_LINE).encode(errors="replace").decode()


def csv_cell(value: Any) -> Any:
    r"""Return a value for a CSV file that is read by machines, spreadsheets and terminals.

    Text that a spreadsheet would run as a formula has an apostrophe in front; take the first one off what begins with apostrophes and one
    of = + - @ to have the name back. A control character is written as in Python, \x1b. Numbers stay, also those that are text.
    """
    if not isinstance(value, str):
        return value
    text = value.translate(_ESCAPED)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in the singular or the plural, by default with an s: `1 image`, `1,200 images`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


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


def format_seconds(seconds: float) -> str:
    """Format a duration in the unit that suits: "42 s", "7 min", "2 h 05 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def some_of(names: Iterable[str], num: int = 5) -> str:
    """Return the first `num` names, in printable form, and the number of the others, as in "a, b and 3 more"."""
    names = list(names)
    more = len(names) - num
    return ", ".join(map(printable, names[:num])) + (f" and {more} more" if more > 0 else "")
