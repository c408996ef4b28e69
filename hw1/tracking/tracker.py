"""The one interface behind wandb and TensorBoard. Another tracker is a class with these methods, and a line in `hw1.tracking.start`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from PIL import Image

from hw1.utils.console import say
from hw1.utils.text import one_line


class At(NamedTuple):
    """When something was measured."""

    step: int
    """Optimizer steps of the run so far."""
    epoch: int | None = None
    """The epoch that ended there, counted from 1 (0 = before the first); None for values of a step, whose x-axis is `step`."""


class Table(NamedTuple):
    """Rows of cells under the names of their columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | Image.Image | None]]


class FileSet(NamedTuple):
    """Files that belong together: the weights of a run, or the list of its data."""

    name: str
    """Letters, digits, `-`, `_` and `.`."""
    kind: Literal["model", "dataset"]
    files: Mapping[str, Path | bytes]
    """By their names in the set."""
    metadata: Mapping[str, Any]
    aliases: Sequence[str] = ()
    references: Mapping[str, str] = {}
    """URIs of folders that belong to it and stay where they are, by their names in the set."""


class Tracker(Protocol):
    """A client of a tracker, for one run. Any method may raise anything: `Trackers` says so, and drops the tracker.

    A run that is continued sends everything again that is in its folder, in the same order. A tracker leaves out what it has.
    """

    @property
    def id(self) -> str | None:
        """What finds the run again when it is continued; None where the folder is enough."""
        ...

    def scalars(self, values: Mapping[str, float], at: At) -> None:
        """Send numbers by name."""
        ...

    def images(self, images: Mapping[str, Image.Image], at: At) -> None:
        """Send pictures by name."""
        ...

    def tables(self, tables: Mapping[str, Table], at: At) -> None:
        """Send tables by name."""
        ...

    def files(self, files: FileSet) -> None:
        """Send files: data that the run reads, or the model that comes of it."""
        ...

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set what the list of all runs shows of this one."""
        ...

    def finish(self, *, failed: bool) -> None:
        """Send the rest and end the client; `failed` where the run has not come to its end."""
        ...


class Trackers:
    """Several trackers as one. What one of them raises is said once, and that tracker is dropped: it is no reason not to train.

    Args:
        where: The run, for messages.
        openers: By the tracker's name, what starts its client.
        rest: What goes on without a tracker that fails, for messages.
    """

    def __init__(self, where: Path, openers: Mapping[str, Callable[[], Tracker]], rest: str = "training") -> None:
        self._where, self._rest = where, rest
        self._open: dict[str, Tracker] = {}
        for name, start in openers.items():
            with self._dropping(name):
                self._open[name] = start()

    def __bool__(self) -> bool:
        return bool(self._open)

    def id_of(self, name: str) -> str | None:
        """Return the id of the run in the tracker of this name; None where it is not open or has none."""
        return self._open[name].id if name in self._open else None

    def scalars(self, values: Mapping[str, float], at: At) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.scalars(values, at))

    def images(self, images: Mapping[str, Image.Image], at: At) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.images(images, at))

    def tables(self, tables: Mapping[str, Table], at: At) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.tables(tables, at))

    def files(self, files: FileSet) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.files(files))

    def summary(self, values: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.summary(values))

    def finish(self, *, failed: bool) -> None:
        """See `Tracker`; none is open afterwards."""
        self._each(lambda tracker: tracker.finish(failed=failed))
        self._open.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            with self._dropping(name):
                call(tracker)

    @contextmanager
    def _dropping(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            say(f"{self._where}: {name}: {one_line(error)}; {self._rest} goes on without")
