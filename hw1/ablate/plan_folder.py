"""The folder that a command with many runs keeps for itself."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hw1.errors import UserError
from hw1.utils.file_lock import hold_lock
from hw1.utils.files import make_folder


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes out of it during the block; the lock ends with the process.

    Raises:
        UserError: Another process holds it, or it cannot be written to.
    """

    def refuse() -> None:
        raise UserError(f"{folder}: another process is at work there")

    with ExitStack() as stack:
        try:
            make_folder(folder)
            stack.enter_context(hold_lock(folder / ".lock", refuse))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to: {error.strerror}") from None
        yield
