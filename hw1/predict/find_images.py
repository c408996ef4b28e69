"""Find the images that the user named. No torch; no image is opened here."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw1.data.archives import unpack_hint
from hw1.data.list_files import has_image_suffix, list_images, natural_key
from hw1.errors import UserError
from hw1.utils.text import printable


def find_images(arguments: Sequence[str], listed: Sequence[str] = ()) -> list[Path]:
    """Find the images of files, folders (at any depth) and patterns.

    A file that is named itself counts whatever its suffix; of a folder or pattern only files with the suffix of an image count.

    Args:
        arguments: Files, folders and patterns.
        listed: Further files and folders, which are never patterns.

    Returns:
        Each image once, in the order given; inside a folder or pattern in natural order.

    Raises:
        UserError: An argument has no image; one line for each such argument.
    """
    images: dict[Path, None] = {}
    problems: list[str] = []
    for text, may_be_pattern in [*((text, True) for text in arguments), *((text, False) for text in listed)]:
        try:
            images.update(dict.fromkeys(_expand(text, may_be_pattern)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    if not images:
        raise UserError("stdin: no paths")
    return list(images)


def split_paths(data: bytes, separator: bytes) -> list[str]:
    """Split bytes into paths, whatever their encoding; empty paths are skipped."""
    return [os.fsdecode(path) for path in data.split(separator) if path]


def _expand(text: str, may_be_pattern: bool) -> Iterator[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = list_images(path)
        if not files:
            raise UserError(f"{printable(path)}: no images in this folder")
        yield from (path / file for file in files)
    elif os.path.lexists(path):
        if hint := unpack_hint(path, ""):
            raise UserError(f"{printable(path)}: {hint}")
        yield path
    elif may_be_pattern and glob.has_magic(text):
        matches = glob.glob(_as_pattern(path), recursive=True)
        files = sorted({file for match in matches for file in _images_of_match(match)}, key=natural_key)
        if not files:
            raise UserError(f"{printable(text)}: matches no image")
        yield from map(Path, files)
    else:
        raise UserError(f"{printable(path)}: no such file or folder")


def _as_pattern(path: Path) -> str:
    """Return a path as a pattern in which the part that exists, such as a folder `photos [1]`, stands for itself alone."""
    literal = next(parent for parent in path.parents if os.path.lexists(parent) or parent == parent.parent)
    return os.path.join(glob.escape(str(literal)), path.relative_to(literal)) if str(literal) != "." else str(path)


def _images_of_match(match: str) -> list[str]:
    """Return the images of a folder or file that a pattern matched."""
    path = Path(match)
    if path.is_dir():
        return [str(path / file) for file in list_images(path)]
    return [str(path)] if has_image_suffix(path.name) else []
