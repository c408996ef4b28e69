"""TensorBoard: event files in the run folder, each value once, also after a kill."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hw1.tracking.names import STEP_NAMES
from hw1.tracking.tracker import At, FileSet, Table
from hw1.utils.text import csv_cell

GRID_COLUMNS = 10


class TensorboardTracker:
    """Writes event files. The x-axis is the optimizer step for curves of steps, and the epoch for all others.

    What an earlier process wrote is taken over up to where the run is continued, so that no value is there twice or missing.

    Args:
        folder: Folder of the event files.
        at: The run's optimizer steps and epochs so far; what comes after is dropped.
        config: What is shown as text, by name.
        replaces: A group whose values are dropped too.
    """

    id = None

    def __init__(self, folder: Path, at: At, config: Mapping[str, str], replaces: str | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only when it is used: it may not be installed

        former = sorted(folder.glob("events.out.tfevents.*"))
        dropped = f"{replaces}/" if replaces else "\0"  # no name begins so
        kept = {key: event for key, event in _events(former) if _is_before(key, at) and not key[0].startswith(dropped)}
        self._seen = set(kept)
        self._writer = SummaryWriter(str(folder))
        for event in kept.values():
            self._writer.file_writer.add_event(event, walltime=event.wall_time)  # type: ignore[attr-defined]  # torch types it None
        for name, text in config.items():
            if self._is_new(f"{name}/text_summary", 0):
                self._writer.add_text(name, text, 0)
        self._writer.flush()
        for path in former:
            path.unlink()

    def scalars(self, values: Mapping[str, float], at: At) -> None:
        """Write numbers."""
        for name, value in values.items():
            if self._is_new(name, _step(at)):
                self._writer.add_scalar(name, value, _step(at))
        self._writer.flush()  # to the system, where it stays when the process is killed

    def images(self, images: Mapping[str, Image.Image], at: At) -> None:
        """Write pictures."""
        for name, image in images.items():
            if self._is_new(name, _step(at)):
                self._writer.add_image(name, np.asarray(image.convert("RGB")), _step(at), dataformats="HWC")
        self._writer.flush()

    def tables(self, tables: Mapping[str, Table], at: At) -> None:
        """Write tables as text, and the pictures of their cells as one picture, in the order of the rows."""
        for name, table in tables.items():
            if self._is_new(f"{name}/text_summary", _step(at)):
                self._writer.add_text(name, _to_markdown(table), _step(at))
            if pictures := [cell for row in table.rows for cell in row if isinstance(cell, Image.Image)]:
                self.images({f"{name}_images": _grid(pictures)}, at)
        self._writer.flush()

    def files(self, files: FileSet) -> None:
        """Do nothing: TensorBoard keeps no files."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Do nothing: TensorBoard has no list of runs."""

    def finish(self, *, failed: bool) -> None:
        """Close the event file."""
        self._writer.close()

    def _is_new(self, tag: str, step: int) -> bool:
        """Return whether the value is not there yet; it counts as written from here on."""
        is_new = (tag, step) not in self._seen
        self._seen.add((tag, step))
        return is_new


def _step(at: At) -> int:
    return at.step if at.epoch is None else at.epoch


def _events(files: list[Path]) -> Iterator[tuple[tuple[str, int], Any]]:
    """Yield the events of one value each, by (tag, step); a file that a killed process left may end anywhere."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for path in files:
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                yield (value.tag, event.step), event


def _is_before(key: tuple[str, int], at: At) -> bool:
    tag, step = key
    return step <= (at.step if tag in STEP_NAMES.values() else at.epoch or 0)


def _to_markdown(table: Table) -> str:
    shown = [i for i in range(len(table.columns)) if not any(isinstance(row[i], Image.Image) for row in table.rows)]
    lines = [[str(table.columns[i]) for i in shown], ["---"] * len(shown)]
    for row in table.rows:
        lines.append([f"{cell:.4g}" if isinstance(cell := row[i], float) else str(csv_cell(cell)).replace("|", "\\|") for i in shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grid(pictures: list[Image.Image]) -> Image.Image:
    side = max(max(picture.size) for picture in pictures)
    rows = -(-len(pictures) // GRID_COLUMNS)
    grid = Image.new("RGB", (side * min(len(pictures), GRID_COLUMNS), side * rows), "white")
    for i, picture in enumerate(pictures):
        grid.paste(ImageOps.pad(picture.convert("RGB"), (side, side), color="white"), (i % GRID_COLUMNS * side, i // GRID_COLUMNS * side))
    return grid
