"""What lies in a folder: class folders, image files, strays. No torch; no image is opened here.

Images lie at any depth below a class folder; links are followed. All else (hidden names, other suffixes) is a stray: passed over, counted.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hw1.errors import UserError
from hw1.utils.text import printable

# In lower case; the content decides what a file is, see hw1.data.decode.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip
Identity = tuple[int, int]  # device and inode: the same folder by whatever path


@dataclass(frozen=True)
class ClassFolders:
    """Class folders below `folder`: name -> image files relative to the data root (posix), both in natural order."""

    folder: Path
    files: dict[str, list[str]]
    num_stray: int


def natural_key(name: str) -> tuple:
    """Sort key under which 2 < 10, by code points otherwise; folders of a posix path are compared one by one. No two names are equal."""
    parts: list[tuple] = []
    for part in name.split("/"):
        pieces: list = re.split("([0-9]+)", part)
        for i in range(1, len(pieces), 2):
            digits = pieces[i].lstrip("0")
            pieces[i] = (len(digits), digits)  # compares like the number, at any length
        parts.append((tuple(pieces), part))  # the part itself tells 1 from 01
    return tuple(parts)


def require_folder(folder: Path, source: str) -> None:
    """Raises UserError, its line beginning with `source`, unless `folder` is one; names the nearest that is there."""
    if os.path.isdir(folder):
        return
    if os.path.lexists(folder):
        raise UserError(f"{source}{printable(folder)}: not a folder")
    beside = list_folders(folder.parent) if os.path.isdir(folder.parent) else []
    hint = [f"; did you mean {printable(folder.parent / near)}?" for near in get_close_matches(folder.name, beside, n=1)]
    raise UserError(f"{source}{printable(folder)}: no such folder{''.join(hint)}")


def list_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, hidden ones left out, in natural order."""
    return sorted((entry.name for entry in _entries(folder) if _is_folder(entry)), key=natural_key)


def list_flat_images(folder: Path) -> tuple[list[str], int]:
    """Names of the image files in `folder` itself, in natural order, and the number of strays, folders among them."""
    entries = list(_entries(folder))
    files = sorted((entry.name for entry in entries if _is_image(entry)), key=natural_key)
    return files, len(entries) - len(files)


def list_images(folder: Path) -> list[str]:
    """Image files at any depth below `folder`, as posix paths relative to it, in natural order."""
    files, _ = _list_images(folder, ".", frozenset())
    return [file.removeprefix("./") for file in files]


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name is looked at as an image; hidden ones are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_class_folders(root: Path, inside: str) -> ClassFolders:
    """The class folders of `root/inside`. Raises UserError for a folder that is missing or cannot be read."""
    folder = root / inside
    require_folder(folder, "data.root: ")
    entries = list(_entries(folder))
    names = list_folders(folder)
    num_stray = len(entries) - len(names)
    files = {}
    above = frozenset((_identity(root), _identity(folder)))
    for name in names:
        files[name], strays = _list_images(root, Path(inside, name).as_posix(), above)
        num_stray += strays
    return ClassFolders(folder, files, num_stray)


def _list_images(root: Path, inside: str, above: frozenset[Identity]) -> tuple[list[str], int]:
    """Image files at any depth below `root/inside`, relative to `root`, in natural order; and the number of strays.

    A link to one of the folders that hold it (`above`) is a stray: it would never end.
    """
    files, num_stray = [], 0
    todo = [(inside, above)]
    while todo:
        inside, above = todo.pop()
        identity = _identity(root / inside)
        if identity in above:
            num_stray += 1
            continue
        for entry in _entries(root / inside):
            if _is_folder(entry):
                todo.append((f"{inside}/{entry.name}", above | {identity}))
            elif _is_image(entry):
                files.append(f"{inside}/{entry.name}")
            else:
                num_stray += 1
    return sorted(files, key=natural_key), num_stray


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise _unreadable(folder, error) from error


def _identity(folder: Path) -> Identity:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _unreadable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{printable(folder)}: cannot be read: {(error.strerror or str(error)).lower()}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name == "__MACOSX":  # the latter: what a zip file made on a Mac leaves
        return False
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By name. A dangling link counts, so that it is reported instead of passed over; folders, pipes and devices do not."""
    if not has_image_suffix(entry.name):
        return False
    return entry.is_file() if not entry.is_symlink() else os.path.isfile(entry.path) or not os.path.exists(entry.path)
