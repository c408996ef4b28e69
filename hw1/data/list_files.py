"""List what a folder holds: class folders, image files, strays. No torch; only files without a suffix are opened here.

Image files may lie at any depth below a class folder; links are followed. A file is an image by its suffix, or by its first bytes if it
has no suffix, as phones and exports write them. Everything else (hidden names, other suffixes, folders of the system) is a stray: it is
passed over and listed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hw1.data.archives import unpack_hint
from hw1.data.first_bytes import is_image
from hw1.errors import UserError
from hw1.utils.text import printable

# In lower case; the content decides what a file is, see hw1.data.decode.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip
SYSTEM_FOLDERS = frozenset(("__macosx", "@eadir", "@tmp", "#recycle", "$recycle.bin", "system volume information", "lost+found"))
"""In lower case: left by zip files made on a Mac, by network disks, by Windows and by file systems. Their images are copies and scraps."""
FolderId = tuple[int, int]
"""Device and inode: equal for the same folder, by whatever path."""
NaturalKey = tuple[Any, ...]


@dataclass(frozen=True)
class ClassFolders:
    """The class folders in `folder`."""

    folder: Path
    files: dict[str, list[str]]
    """Image files by class name, as POSIX paths relative to the data root; names and files are in natural order."""
    strays: list[str]
    """What was passed over, as POSIX paths relative to the data root; of a folder only itself."""


def natural_key(name: str) -> NaturalKey:
    """Return a sort key under which "2" comes before "10"; otherwise the order is that of code points.

    The parts of a POSIX path are compared one by one. No two names have the same key.
    """
    parts: list[NaturalKey] = []
    for part in name.split("/"):
        pieces: list[Any] = re.split("([0-9]+)", part)
        for i in range(1, len(pieces), 2):
            digits = pieces[i].lstrip("0")
            pieces[i] = (len(digits), digits)  # compares like the number, at any length
        parts.append((tuple(pieces), part))  # the part itself distinguishes 1 from 01
    return tuple(parts)


def require_folder(folder: Path, prefix: str) -> None:
    """Raise an error unless `folder` is a folder.

    Raises:
        UserError: Begins with `prefix` and suggests the folder with the nearest name, or the command that unpacks an archive.
    """
    if os.path.isdir(folder):
        return
    if os.path.lexists(folder):
        raise UserError(f"{prefix}{printable(folder)}: {unpack_hint(folder, prefix.removesuffix(': ')) or 'not a folder'}")
    siblings = list_folders(folder.parent) if os.path.isdir(folder.parent) else []
    hint = [f"; did you mean {printable(folder.parent / name)}?" for name in get_close_matches(folder.name, siblings, n=1)]
    raise UserError(f"{prefix}{printable(folder)}: no such folder{''.join(hint)}")


def list_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that are not hidden, in natural order."""
    return sorted((entry.name for entry in _entries(folder) if _is_folder(entry)), key=natural_key)


def list_flat_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the image files directly in `folder` and of the strays, which include folders; both in natural order."""
    files: list[str] = []
    strays: list[str] = []
    for entry in _entries(folder):
        (files if _is_image(entry) else strays).append(entry.name)
    return sorted(files, key=natural_key), sorted(strays, key=natural_key)


def list_images(folder: Path) -> list[str]:
    """Return the image files at any depth below `folder`, as POSIX paths relative to it, in natural order."""
    files, _ = _list_images(folder, ".", frozenset())
    return [file.removeprefix("./") for file in files]


def list_all_files(folder: Path) -> list[str]:
    """Return the files at any depth below `folder`, images or not, hidden ones too, as POSIX paths relative to it, in no order."""
    files: list[str] = []
    todo: list[tuple[str, frozenset[FolderId]]] = [("", frozenset())]
    while todo:
        subfolder, parents = todo.pop()
        folder_id = _folder_id(folder / subfolder)
        if folder_id not in parents:  # else it is a link to one of its parents
            for entry in _entries(folder / subfolder):
                path = f"{subfolder}{entry.name}"
                if entry.is_dir():
                    todo.append((f"{path}/", parents | {folder_id}))
                else:
                    files.append(path)
    return files


def has_image_suffix(name: str) -> bool:
    """Return whether a file of this name counts as an image; hidden files do not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_class_folders(root: Path, subfolder: str) -> ClassFolders:
    """List the class folders in `root/subfolder`; `subfolder` may be "".

    Raises:
        UserError: A folder is missing or cannot be read.
    """
    folder = root / subfolder
    require_folder(folder, "data.root: ")
    names: list[str] = []
    strays: list[str] = []
    for entry in _entries(folder):
        (names if _is_folder(entry) else strays).append(entry.name)
    strays = [Path(subfolder, name).as_posix() for name in strays]
    files = {}
    parents = frozenset((_folder_id(root), _folder_id(folder)))
    for name in sorted(names, key=natural_key):
        files[name], others = _list_images(root, Path(subfolder, name).as_posix(), parents)
        strays += others
    return ClassFolders(folder, files, sorted(strays, key=natural_key))


def _list_images(root: Path, subfolder: str, parents: frozenset[FolderId]) -> tuple[list[str], list[str]]:
    """List the image files at any depth below `root/subfolder`.

    Args:
        root: The data root.
        subfolder: POSIX path relative to `root`.
        parents: Folders that hold it. A link to one of them is a stray, as following it would never end.

    Returns:
        Paths relative to `root`, in natural order; and those of the strays.
    """
    files: list[str] = []
    strays: list[str] = []
    todo = [(subfolder, parents)]
    while todo:
        subfolder, parents = todo.pop()
        folder_id = _folder_id(root / subfolder)
        if folder_id in parents:
            strays.append(subfolder)
            continue
        for entry in _entries(root / subfolder):
            if _is_folder(entry):
                todo.append((f"{subfolder}/{entry.name}", parents | {folder_id}))
            else:
                (files if _is_image(entry) else strays).append(f"{subfolder}/{entry.name}")
    return sorted(files, key=natural_key), strays


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise _unreadable(folder, error) from error


def _folder_id(folder: Path) -> FolderId:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _unreadable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{printable(folder)}: cannot be read: {(error.strerror or str(error)).lower()}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
        return False
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Decide by name, without a suffix by content.

    A dangling link named as an image counts, so that it is reported and not passed over; folders, pipes and devices do not.
    """
    if not has_image_suffix(entry.name):
        return not entry.name.startswith(".") and os.path.splitext(entry.name)[1] in ("", ".") and is_image(entry.path)
    return entry.is_file() if not entry.is_symlink() else os.path.isfile(entry.path) or not os.path.exists(entry.path)
