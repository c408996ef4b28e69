"""Find the files that a table calls by a path, a name or a name without suffix. No torch; the folder is listed once."""

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hw1.data.list_files import has_image_suffix, list_all_files

Index = dict[str, list[str]]
"""At most `NUM_KEPT` files by key."""
NUM_KEPT = 3


def match_files(names: Sequence[str], root: Path) -> list[list[str]]:
    r"""Return the files in `root` that each name may mean: one, none, or several between which it does not decide.

    A name is a path relative to `root`, with `/` or `\`. Where there is no such file, it is tried without the suffix of an image, then as
    the end of a path, in this order; Unicode forms do not count. An absolute path must lie in `root`.

    Args:
        names: What the files are called.
        root: The folder, which is searched at any depth.

    Returns:
        POSIX paths relative to `root`, at most `NUM_KEPT` for each name.

    Raises:
        UserError: A folder cannot be read.
    """
    listed = sorted(list_all_files(root))
    files, absolute_root = set(listed), os.path.abspath(root)
    paths = [name if name in files else _relative(name, absolute_root) for name in names]
    unmatched = {_key(path) for path in paths if path not in files}
    indices = _build_indices(listed, unmatched)

    def find(path: str) -> list[str]:
        if path in files:
            return [path]
        key = _key(path)
        return next((index[key] for index in indices if key in index), [])

    return [find(path) for path in paths]


def is_outside(name: str, root: Path) -> bool:
    """Return whether a name is a path to elsewhere than `root`."""
    path = _relative(name, os.path.abspath(root))
    return path.startswith(("/", "../")) or path == ".." or path[1:3] == ":/"


def _relative(name: str, absolute_root: str) -> str:
    """Return the POSIX path that a name stands for, relative to the root; one that lies elsewhere stays absolute, or begins with `..`."""
    path = posixpath.normpath(name.replace("\\", "/"))
    return posixpath.relpath(path, absolute_root) if path.startswith(f"{absolute_root}/") else path


def _build_indices(files: Iterable[str], names: set[str]) -> list[Index]:
    """Index files by whole path, by path without suffix, and by the ends of both, of as many parts as one of the names has."""
    if not names:
        return []
    depths = {name.count("/") + 1 for name in names}
    indices: list[Index] = [defaultdict(list) for _ in range(4)]
    for file in files:
        path = _key(file)
        forms = [path, os.path.splitext(path)[0]] if has_image_suffix(posixpath.basename(file)) else [path]
        for form, whole, ends in zip(forms, indices[:2], indices[2:], strict=False):
            parts = form.split("/")
            for depth in depths:
                end = "/".join(parts[-depth:]) if depth <= len(parts) else ""
                if end in names:
                    index = whole if depth == len(parts) else ends
                    if len(index[end]) < NUM_KEPT:
                        index[end].append(file)
    return indices


def _key(path: str) -> str:
    return path if path.isascii() else unicodedata.normalize("NFC", path)
