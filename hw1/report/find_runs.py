"""Find the run folders below what a command line names. Reads only."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw1.data.list_files import list_folders, require_folder
from hw1.errors import UserError
from hw1.utils.text import printable

MAX_DEPTH = 5
"""Folders between a named one and a run."""
SEED_FOLDER = re.compile(r"seed(\d+)")
OF_A_RUN = ("env.json", "metrics.jsonl", "checkpoints")
"""One of these stands beside the `config.yaml` of a run that has another name than `seed<n>`; trackers write config.yaml files too."""


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders that are named, or lie below a named folder: each once, in the order of `paths`, then by name.

    A folder is a run if it is called `seed<n>`, or holds a `config.yaml` beside another file of a run. Hidden folders are passed over.

    Args:
        paths: Run folders, and folders of run folders.

    Raises:
        UserError: One of them is no folder, cannot be read, or has no run in it.
    """
    found: dict[str, Path] = {}
    for path in paths:
        require_folder(path, "")
        runs = [path] if os.path.isfile(path / "config.yaml") else list(_runs_below(path, MAX_DEPTH, set()))
        if not runs:
            raise UserError(f"{printable(path)}: no run in it (NAME/seed0/ and so on)")
        for run in runs:
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


def _runs_below(folder: Path, depth: int, seen: set[str]) -> Iterator[Path]:
    if SEED_FOLDER.fullmatch(folder.name) or _is_renamed_run(folder):
        yield folder
        return
    place = os.path.realpath(folder)
    if depth < 0 or place in seen:  # a link may lead back up
        return
    seen.add(place)
    try:
        names = list_folders(folder)
    except UserError:
        if depth == MAX_DEPTH:
            raise
        return  # nobody named it
    for name in names:
        yield from _runs_below(folder / name, depth - 1, seen)


def _is_renamed_run(folder: Path) -> bool:
    return os.path.isfile(folder / "config.yaml") and any(os.path.exists(folder / name) for name in OF_A_RUN)
