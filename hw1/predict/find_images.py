"""What the user named -> the images to predict. No torch; no image is opened here."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw1.data.list_files import has_image_suffix, list_images, natural_key
from hw1.errors import UserError
from hw1.utils.text import printable


def find_images(arguments: Sequence[str], listed: Sequence[str] = ()) -> list[Path]:
    """The images of files, folders (at any depth) and patterns, then of the paths in `listed`, which are never patterns.

    In the order given, each once; inside a folder or pattern in natural order. A file that is named itself counts whatever it is called;
    of the others those with the suffix of an image. Raises UserError with a line for each argument without any image.
    """
    found: dict[Path, None] = {}
    problems: list[str] = []
    for text, may_be_pattern in [*((text, True) for text in arguments), *((text, False) for text in listed)]:
        try:
            found.update(dict.fromkeys(_images_of(text, may_be_pattern)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    if not found:
        raise UserError("stdin: no paths")
    return list(found)


def split_paths(data: bytes, separator: bytes) -> list[str]:
    """Paths from bytes, whatever their encoding; empty ones are passed over."""
    return [os.fsdecode(path) for path in data.split(separator) if path]


def _images_of(text: str, may_be_pattern: bool) -> Iterator[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = list_images(path)
        if not files:
            raise UserError(f"{printable(path)}: no images in this folder")
        yield from (path / file for file in files)
    elif os.path.lexists(path):
        yield path
    elif may_be_pattern and glob.has_magic(text):
        files = sorted({file for match in glob.glob(str(path), recursive=True) for file in _images_at(match)}, key=natural_key)
        if not files:
            raise UserError(f"{printable(text)}: matches no image")
        yield from map(Path, files)
    else:
        raise UserError(f"{printable(path)}: no such file or folder")


def _images_at(match: str) -> list[str]:
    """The images of a pattern's match, a folder or a file."""
    path = Path(match)
    if path.is_dir():
        return [str(path / file) for file in list_images(path)]
    return [str(path)] if has_image_suffix(path.name) else []
