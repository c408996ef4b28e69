"""List the images of a data folder by split and class; accept what training refuses, as the audit is to report it."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hw1.config.recipe import DataConfig
from hw1.data.image_folder import SPLIT_NAMES
from hw1.data.list_files import NaturalKey, list_class_folders, list_flat_images, list_folders, natural_key, require_folder
from hw1.data.listed_images import read_listed_images
from hw1.errors import UserError
from hw1.utils.text import printable

WHOLE = "all"
"""Name of the only split if class folders lie in the root itself."""


class Image(NamedTuple):
    """An image file of the data folder."""

    file: str
    """POSIX path relative to the root."""
    split: str
    label: str | None
    """The class folder's name; None for an image beside the class folders, or in a split without them."""


@dataclass(frozen=True, eq=False)
class Inventory:
    """All images below `root`, split by split."""

    root: Path
    images: list[Image]
    classes: dict[str, dict[str, int]]
    """Number of images by split and class, of labelled splits only."""
    strays: list[str]
    """What was passed over, as POSIX paths relative to the root."""

    @property
    def splits(self) -> dict[str, int]:
        """Number of images by split, in the order train, val, test."""
        return dict(Counter(image.split for image in self.images))

    def path(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.images[index].file


def take_inventory(root: Path) -> Inventory:
    """List the splits that are folders of `root` (train, val, test and their usual names), or else its class folders as one split, `WHOLE`.

    Raises:
        UserError: A folder is missing or cannot be read, or there is no image.
    """
    require_folder(root, "")
    folders = list_folders(root)
    splits = sorted((name for name in folders if name.lower() in SPLIT_NAMES), key=_split_key)
    if not splits:
        inner = [name for name in folders if os.path.isdir(root / name / "train")]
        if inner:
            raise UserError(f"{printable(root)}: has no train/; did you mean {printable(root / inner[0])}?")
    images: list[Image] = []
    classes: dict[str, dict[str, int]] = {}
    strays: list[str] = []
    for name in splits or [""]:
        split = name or WHOLE
        listing = list_class_folders(root, name)
        beside = list_flat_images(root / name)[0] if is_test(name) else []
        if any(listing.files.values()) or not beside:
            classes[split] = {label: len(files) for label, files in listing.files.items()}
            images += [Image(file, split, label) for label, files in listing.files.items() for file in files]
        images += [Image(f"{name}/{file}", split, None) for file in beside]
        used = {f"{name}/{file}" for file in beside}
        strays += [stray for stray in listing.strays if stray not in used]
    if not images:
        raise UserError(f"{printable(root)}: no images in class folders")
    return Inventory(root, images, classes, strays)


def list_inventory(config: DataConfig) -> Inventory:
    """List the images of `data.labels`: by the splits that the file names, or else as one split, `WHOLE`, and `test` without labels.

    Raises:
        UserError: The file does not fit the images, see `read_listed_images`.
    """
    listed = read_listed_images(config)
    splits = [split if listed.has_val or split == "test" else WHOLE for split in listed.splits]
    images = [Image(file, split, label or None) for file, split, label in zip(listed.files, splits, listed.labels, strict=True)]
    images.sort(key=lambda image: _split_key(image.split)[0])
    classes: dict[str, dict[str, int]] = {}
    for split in dict.fromkeys(image.split for image in images):
        counts = Counter(image.label for image in images if image.split == split and image.label is not None)
        if counts:
            classes[split] = {label: counts[label] for label in sorted(counts, key=natural_key)}
    return Inventory(listed.root, images, classes, [])


def is_test(split: str) -> bool:
    """Return whether a split, by its name, is for testing."""
    return _split_key(split)[0] == 2


def _split_key(split: str) -> tuple[int, NaturalKey]:
    """Return a sort key that begins with 0 for training, 1 for validation and 2 for test."""
    return "tvs".find("s" if split.lower().startswith("te") else split[:1].lower()), natural_key(split)
