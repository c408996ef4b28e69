"""The labelled images that folds are made of: those of class folders, or of a table of labels. No torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw1.audit.duplicates import find_copies
from hw1.audit.inventory import is_test, take_inventory
from hw1.audit.scan import scan_files
from hw1.config.recipe import DataConfig
from hw1.data.folders import require_root
from hw1.data.list_files import natural_key
from hw1.data.listed_images import read_listed_images
from hw1.errors import UserError
from hw1.utils.text import printable


@dataclass(frozen=True, eq=False)
class FoldImages:
    """N labelled images, and the test images without a label.

    Attributes:
        root: The folder that the files are in.
        files: POSIX path of each labelled image, relative to `root`.
        labels: Name of its class.
        groups: What it must stay together with; "" for an image on its own.
        test_files: The same paths of the images without a label.
    """

    root: Path
    files: list[str]
    labels: list[str]
    groups: list[str]
    test_files: list[str]


def read_images(config: DataConfig) -> FoldImages:
    """List all labelled images but those of a test split: training and validation images alike, as each is to be predicted.

    Args:
        config: The recipe's section `data`.

    Raises:
        UserError: There are none, or they are of a kind of which no folds are made.
    """
    if config.dataset is not None:
        raise UserError("data.dataset: folds are made of image folders or of data.labels")
    images = _listed(config) if config.labels is not None else _of_folders(require_root(config.root))
    if not images.files:
        raise UserError(f"data.root: {printable(images.root)}: no labelled images beside those of the test split")
    return images


def join_copies(images: FoldImages) -> tuple[FoldImages, int]:
    """Put images that show the same into one group, with all that were in their groups before.

    Returns:
        The images with their new groups, and how many of them have a copy among the others. A group is named as its first member's was, or
        by that member's file.
    """
    paths = [images.root / file for file in images.files]
    copies = find_copies(paths, scan_files(paths)).copies()
    ids: dict[str, int] = {}
    parent = list(range(len(images.files)))

    def root_of(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(first: int, second: int) -> None:
        low, high = sorted((root_of(first), root_of(second)))
        parent[high] = low

    for index, group in enumerate(images.groups):
        if group:
            join(ids.setdefault(group, index), index)
    for members in copies:
        for member in members[1:]:
            join(members[0], member)
    roots = np.array([root_of(index) for index in range(len(parent))])
    sizes = np.bincount(roots, minlength=len(parent))
    names = ["" if sizes[root] == 1 and not images.groups[i] else images.groups[root] or images.files[root] for i, root in enumerate(roots)]
    return FoldImages(images.root, images.files, images.labels, names, images.test_files), sum(map(len, copies))


def _of_folders(root: Path) -> FoldImages:
    inventory = take_inventory(root)
    test = [image for image in inventory.images if is_test(image.split)]
    labelled = sorted(
        (image for image in inventory.images if image.label is not None and not is_test(image.split)),
        key=lambda image: natural_key(image.file),
    )
    files, labels = [image.file for image in labelled], [str(image.label) for image in labelled]
    return FoldImages(root, files, labels, [""] * len(files), [image.file for image in test if image.label is None])


def _listed(config: DataConfig) -> FoldImages:
    listed = read_listed_images(config.model_copy(update={"fold": None, "val_fraction": None}))
    rows = [row for row, (label, split) in enumerate(zip(listed.labels, listed.splits, strict=True)) if label and split != "test"]
    columns = (listed.files, listed.labels, listed.groups)
    files, labels, groups = ([column[row] for row in rows] for column in columns)
    test_files = [file for file, label in zip(listed.files, listed.labels, strict=True) if not label]
    return FoldImages(listed.root, files, labels, groups, test_files)
