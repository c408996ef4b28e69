"""Counts faults tried, survived and lost."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Lost(Exception):
    """A fault was not survived as promised."""


def expect(condition: object, message: str) -> None:
    """An assertion that also counts outside pytest."""
    if not condition:
        raise Lost(message)


@dataclass
class Tally:
    """`losses` says of each attempt that failed what it was and why; `skipped` why a kind of fault could not be tried here; `seen` counts
    what the attempts met with, so that a table shows that they met with anything.
    """

    fault: str
    survived: int = 0
    losses: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def tried(self) -> int:
        return self.survived + len(self.losses)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Counts what the block does as survived, or as lost where it raises anything."""
        try:
            yield
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = "" if isinstance(error, Lost) else f" ({where.filename.rpartition('/')[2]}:{where.lineno})"
            text = str(error).strip()[-2000:] or type(error).__name__
            self.losses.append(f"{what}: {text}{place}")
        else:
            self.survived += 1
