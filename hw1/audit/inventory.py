"""Which images a data folder holds, by split and class; more forgiving than training, which refuses what is here to be reported."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hw1.data.image_folder import SPLIT_NAMES
from hw1.data.list_files import list_class_folders, list_flat_images, list_folders, natural_key, require_folder
from hw1.errors import UserError
from hw1.utils.text import printable

WHOLE = "all"
"""The split's name where class folders lie in the root itself."""


class Image(NamedTuple):
    file: str
    """Posix path, relative to the root."""
    split: str
    label: str | None
    """The class folder's name; None where there are none."""


@dataclass(frozen=True, eq=False)
class Inventory:
    """All images below `root`, split by split; `classes` counts them: split -> class -> images, of labelled splits only."""

    root: Path
    images: list[Image]
    classes: dict[str, dict[str, int]]
    num_stray: int

    @property
    def splits(self) -> dict[str, int]:
        """Split -> images, in the order train, val, test."""
        return dict(Counter(image.split for image in self.images))

    def path(self, index: int) -> Path:
        return self.root / self.images[index].file


def take_inventory(root: Path) -> Inventory:
    """The splits that are folders of `root` (train, val, test and their usual names), or else its class folders as one split, `WHOLE`.

    Raises UserError for a folder that is missing, cannot be read or holds no image.
    """
    require_folder(root, "")
    folders = list_folders(root)
    splits = sorted((name for name in folders if name.lower() in SPLIT_NAMES), key=_rank)
    if not splits:
        inner = [name for name in folders if os.path.isdir(root / name / "train")]
        if inner:
            raise UserError(f"{printable(root)}: has no train/; did you mean {printable(root / inner[0])}?")
    images: list[Image] = []
    classes: dict[str, dict[str, int]] = {}
    num_stray = 0
    for name in splits or [""]:
        split = name or WHOLE
        flat, num_others = list_flat_images(root / name)
        if flat and _rank(name)[0] == 2:  # an unlabelled test set: folders in it are strays, as in validate.py
            images += [Image(f"{name}/{file}", split, None) for file in flat]
            num_stray += num_others
            continue
        listing = list_class_folders(root, name)
        classes[split] = {label: len(files) for label, files in listing.files.items()}
        images += [Image(file, split, label) for label, files in listing.files.items() for file in files]
        num_stray += listing.num_stray
    if not images:
        raise UserError(f"{printable(root)}: no images in class folders")
    return Inventory(root, images, classes, num_stray)


def _rank(split: str) -> tuple:
    """Training first, then validation, then test."""
    return ("tvs".find("s" if split.lower().startswith("te") else split[:1].lower()), natural_key(split))
