"""Build and open the disk cache (`data.cache: disk`): a set's images, decoded and shrunk once, in one file (`hw1.data.cache.image_file`).

For training each image is stored just large enough for every crop; the augmentation then draws its crop in the stored image's pixels. For
evaluation the result of the validation resize is stored, which is taken as it is: the same bits as from the files.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from hw1.config.recipe import AugConfig, DataConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.data.augment.plain_transforms import Transform
from hw1.data.cache.image_file import CacheFile, CacheFileWriter, DamagedFile, stored_size
from hw1.data.cache.shrink import shrink, shrunk_size
from hw1.data.decode import BadImage, read_size
from hw1.data.folders import WAYS_OUT, make_cache_folder, unwritable_cache
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource
from hw1.errors import RunError, UserError
from hw1.runtime.cpu import map_on_cores
from hw1.utils.file_lock import hold_lock
from hw1.utils.files import atomic_file
from hw1.utils.text import printable

SUFFIX = ".pictures"
MADE_BY = f"2 OpenCV {cv2.__version__} Pillow {PIL.__version__}"  # raise the number when the stored images change


@dataclass(frozen=True)
class CachedSize:
    """The size at which images are stored."""

    side: int | None
    """For training: shorter side in pixels; None stores images as large as they are."""
    rule: EvalRule | None = None
    """For evaluation: how they become squares."""

    @property
    def training(self) -> bool:
        """Whether images keep their aspect, as training needs it."""
        return self.rule is None

    @property
    def key(self) -> Any:
        """What tells it from others; the side alone where that says all, as in caches of before there were rules."""
        return self.side if self.rule is None or self.rule == EvalRule(self.rule.size) else self.rule

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) at which an image of this size is stored."""
        return (self.rule.size, self.rule.size) if self.rule else shrunk_size(height, width, self.side)

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize uint8 [H, W, 3] to `size`."""
        return self.rule(image) if self.rule else shrink(image, self.side)


def open_disk_source(images: ImageSet, data: DataConfig, aug: AugConfig, transform: Transform, *, training: bool) -> CacheFile:
    """Open the cache of `images` in `data.cache_dir`; if it does not exist, build it on all cores, in memory for one image per core.

    The file's name holds a hash of everything that decides on its content: every file's path and stamp (`ImageSet.stamp`) are compared at
    each start. Superseded caches are deleted when one is built; processes that have them open keep them.

    Args:
        images: The images.
        data: The recipe's section `data`.
        aug: The recipe's section `aug`.
        transform: What the images are to be transformed with.
        training: Whether they are for training or for evaluation.

    Raises:
        UserError: The folder cannot be written to or lacks room.
        RunError: An image can no longer be decoded, or writing fails; nothing half-written stays.
    """
    cached_size = CachedSize(transform.smallest_side) if training else CachedSize(aug.size, EvalRule.of(aug))
    folder = make_cache_folder(data.cache_dir)
    content = _describe_content(images, cached_size)
    path = folder / f"{_name_prefix(content)}{_hash(content)}{SUFFIX}"
    cache = _open_if_intact(path)
    if cache is None:
        with _build_lock(folder):
            cache = _open_if_intact(path)  # built meanwhile by another process
            if cache is None:
                _delete_superseded(folder, images, content)
                _build(path, images, cached_size, content)
                cache = CacheFile(path)
    return cache


def _describe_content(images: ImageSet, cached_size: CachedSize) -> dict[str, Any]:
    """Return everything that decides on the content of the cache; it becomes the file's description."""
    files = {file: images.stamp(file) for file in images.files}
    root = os.path.abspath(images.root)
    return {"made_by": MADE_BY, "root": root, "training": cached_size.training, "side": cached_size.key, "files": files}


def _name_prefix(content: dict[str, Any]) -> str:
    """Return the beginning of the names of all caches that differ only in files and versions."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(content["root"]))[:40]
    return f"{name}-{'train' if content['training'] else 'eval'}-{_hash([content[key] for key in ('root', 'training', 'side')])[:8]}-"


def _hash(item: Any) -> str:
    return hashlib.sha256(json.dumps(item).encode()).hexdigest()[:16]


def _open_if_intact(path: Path) -> CacheFile | None:
    """Return the cache, None if it does not exist; delete a damaged one, with a line on stderr."""
    if not path.exists():
        return None
    try:
        return CacheFile(path)
    except DamagedFile as error:
        print(f"data.cache: {error}; it is made anew", file=sys.stderr)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None


@contextlib.contextmanager
def _build_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time build caches in a folder; first remove what killed processes left."""

    def say_waiting() -> None:
        print(f"data.cache: waiting for another process that writes to {printable(folder)}", file=sys.stderr)

    try:
        with hold_lock(folder / f"{SUFFIX}.lock", say_waiting):
            for leftover in folder.glob(f".*{SUFFIX}.*.tmp"):
                leftover.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise unwritable_cache(folder, error) from None


def _delete_superseded(folder: Path, images: ImageSet, content: dict[str, Any]) -> None:
    """Delete the caches with the same name prefix that will not be used again.

    Those are caches of other versions, of files that have changed or are gone, or of files that the new one all has too. What remains is
    of other files, such as another seed's split.
    """
    for path in folder.glob(f"{_name_prefix(content)}*{SUFFIX}"):
        try:
            old = json.loads(CacheFile(path).description)
        except DamagedFile:
            old = {"made_by": None}
        has_other_files = old["made_by"] == MADE_BY and not old["files"].items() <= content["files"].items()
        if not (has_other_files and all(images.stamp(file) == stamp for file, stamp in old["files"].items())):
            path.unlink(missing_ok=True)


def _build(path: Path, images: ImageSet, cached_size: CachedSize, content: dict[str, Any]) -> None:
    source = FileSource(images, cached_size.side if cached_size.training else None)
    description = json.dumps(content).encode()
    needed = _require_room(path.parent, images, cached_size, len(description))
    print(f"data.cache: writing {len(images)} decoded images, {needed / 1e6:,.0f} MB, to {printable(path)}", file=sys.stderr)
    try:
        with atomic_file(path) as file:
            writer = CacheFileWriter(file.fileno(), len(images))
            map_on_cores(lambda index: writer.write(index, cached_size.resize(source.read(index))), len(images), "decoding images")
            writer.finish(description)
    except OSError as error:
        raise RunError(f"data.cache: {printable(path)}: cannot be written: {error.strerror}; {WAYS_OUT}") from None


def _require_room(folder: Path, images: ImageSet, cached_size: CachedSize, description_size: int) -> int:
    """Return the bytes that the cache needs, by the images' headers; raise UserError if the disk has less."""

    def measure(index: int) -> int:
        try:
            height, width = cached_size.size(*read_size(images.image_file(index)))
        except BadImage as error:
            raise RunError(str(error)) from error
        return stored_size(height, width)

    needed = sum(map_on_cores(measure, len(images), "reading image sizes")) + description_size
    free = shutil.disk_usage(folder).free
    if needed > free:
        amounts = f"{needed / 1e6:,.0f} MB are needed for decoded images, {free / 1e6:,.0f} MB are free"
        raise UserError(f"data.cache: {printable(folder)}: {amounts}; {WAYS_OUT}")
    return needed
