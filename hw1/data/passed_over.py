"""Say what of a folder is not used, so that nobody misses images that were never read. No torch."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hw1.data.image_set import ImageSet
from hw1.data.list_files import SYSTEM_FOLDERS, has_image_suffix
from hw1.utils.text import printable, some_of

SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
NUM_NAMED = 2


def describe_passed_over(*sets: ImageSet) -> str:
    """Describe in one line what of the splits of one data set is not used; return "" if nothing is to be said."""
    root = sets[0].root
    if sets[0].archive is not None:
        num = sum(images.num_stray for images in sets)
        return f"passed over in {printable(root)}: {num} samples without an image or a label" if num else ""
    groups = group_strays(root, [stray for images in sets for stray in images.strays])
    kinds = [f"{len(strays)} {kind} ({_examples(strays)})" for kind, strays in groups.items()]
    return f"passed over in {printable(root)}: {some_of(kinds)}" if kinds else ""


def group_strays(root: Path, strays: Iterable[str]) -> dict[str, list[str]]:
    """Group strays by kind: their suffix, or what else makes them none of the images; the largest group comes first.

    Hidden files and folders and those that systems add to every folder are left out, as nobody takes them for images.

    Args:
        root: The data root.
        strays: POSIX paths relative to it.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for stray in strays:
        if kind := _kind(root, stray):
            groups[kind].append(stray)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _kind(root: Path, stray: str) -> str:
    """Return what a stray is; "" for what is left out."""
    name = PurePosixPath(stray).name
    if name.lower() in SYSTEM_FOLDERS:
        return name
    if name.lower() in SYSTEM_FILES or name.startswith("._"):  # the latter hold what a Mac knows of a file
        return ""
    if name.startswith("."):
        return "hidden" if has_image_suffix(name.lstrip(".")) else ""
    suffix = os.path.splitext(name)[1].lower()
    if has_image_suffix(name):
        return f"{suffix} beside the class folders" if os.path.isfile(root / stray) else f"{suffix} that is no file"
    if suffix.strip("."):
        return printable(suffix)
    return "subfolder(s)" if os.path.isdir(root / stray) else "without suffix"


def _examples(strays: list[str]) -> str:
    return ", ".join(map(printable, strays[:NUM_NAMED])) + ", ..." * (len(strays) > NUM_NAMED)
