"""Names of files and folders, which need not be UTF-8: Python has their other bytes as lone surrogates."""


def to_bytes(text: str) -> bytes:
    """As a file holds it: the names keep their bytes."""
    return text.encode(errors="surrogateescape")


def showable(text: str) -> str:
    """As an image or a page shows it: a question mark for what no font has."""
    return text.encode(errors="replace").decode()


def printable(path: object) -> str:
    """The path for a one-line message: quoted and escaped if it holds a newline or another character that does not print."""
    text = str(path)
    return text if text.isprintable() else repr(text)
