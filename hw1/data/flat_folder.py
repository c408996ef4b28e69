"""Tell a flat folder, which holds class folders and nothing else, from one with splits: it is trained on without `data.val_fraction`."""

import os
import re
from pathlib import Path

from hw1.config.recipe import FLAT_VAL_FRACTION, DataConfig
from hw1.data.list_files import list_folders
from hw1.utils.text import printable

SPLIT_WORD = re.compile(r"(?:^|[^a-z])(?:train|training|val|valid|validation|test|testing|dev|eval|holdout)s?(?:[^a-z]|$)")
"""Finds a word in a folder's name, in lower case, by which it may be a split and no class: Train, val2017, test_images."""


def with_flat_fraction(config: DataConfig) -> DataConfig:
    """Return the section with `val_fraction` set where it is null and `root` is a flat folder; else as it is."""
    if config.dataset is not None or config.labels is not None or config.root is None or config.generate or config.val_fraction is not None:
        return config
    root = Path(config.root)
    if not os.path.isdir(root) or len(list_folders(root)) < 2 or find_unclear_folder(root):
        return config
    return config.model_copy(update={"val_fraction": FLAT_VAL_FRACTION})


def find_unclear_folder(root: Path) -> str:
    """Name a folder that makes it unclear whether the folders in `root` are classes; "" if there is none.

    It is hidden, or may be a split, in `root` or in one of its folders.

    Raises:
        UserError: A folder cannot be read.
    """
    try:
        hidden = sorted(name for name in os.listdir(root) if name.startswith(".") and os.path.isdir(root / name))
    except OSError:
        hidden = []
    names = list_folders(root)
    inner = (f"{name}/{each}" for name in names for each in list_folders(root / name) if SPLIT_WORD.search(each.lower()))
    unclear = [*hidden, *(name for name in names if SPLIT_WORD.search(name.lower())), *inner]
    return f"{unclear[0]}/" if unclear else ""


def describe_flat(config: DataConfig, seed: int) -> str:
    """Say in one line what is held out of a flat folder, and by what."""
    return (
        f"data.root: {printable(config.root)} holds class folders alone: {config.val_fraction:.0%} of each class, drawn by seed {seed}, "
        "are held out for validation; data.val_fraction=0.1 holds out another share"
    )
