"""`data.cache: disk`: the images of a set, decoded and shrunk once, in one memory-mapped file (`hw1.data.cache.image_file`).

Training keeps each image just large enough for every crop; the augmentation then draws its crop in the kept image's pixels.
Evaluation keeps the validation resize, whose result does not change when it is resized again: the same bits as from the files.
"""

import contextlib
import fcntl
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

from hw1.config.recipe import AugConfig, DataConfig
from hw1.data.augment.transforms import PillowResize, Transform
from hw1.data.cache.image_file import CacheFile, CacheFileWriter, DamagedFile, bytes_of
from hw1.data.cache.shrink import shrink, shrunk_size
from hw1.data.decode import BadImage, read_size
from hw1.data.folders import WAYS_OUT, make_cache_folder, unwritable_cache
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource
from hw1.errors import RunError, UserError
from hw1.runtime.cpu import map_on_cores
from hw1.utils.files import atomic_file
from hw1.utils.text import printable

SUFFIX = ".pictures"
MADE_BY = f"1 OpenCV {cv2.__version__} Pillow {PIL.__version__}"  # raise the number when what is kept of an image changes


@dataclass(frozen=True)
class Kept:
    """What is kept of each image: training, its aspect with `side` pixels as the shorter side, None as it is; else [side, side, 3]."""

    training: bool
    side: int | None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is kept of an image of this size."""
        if self.training:
            return shrunk_size(height, width, self.side)
        assert self.side is not None
        return self.side, self.side

    def of(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 of `size`."""
        if self.training:
            return shrink(image, self.side)
        assert self.side is not None
        return PillowResize(self.side).apply(image)


def open_disk_source(images: ImageSet, data: DataConfig, aug: AugConfig, transform: Transform, *, training: bool) -> CacheFile:
    """The images of `images` from the cache in `data.cache_dir`, which is made if it is not there, on all cores.

    Its name holds a hash of all that decides on its content: every file's path, size and date of change are compared at each start. What is
    superseded is deleted when a cache is made; processes that have it open keep it. Memory while making it: one image per core.

    Raises UserError where the folder cannot be written to or lacks room, RunError where a file cannot be decoded (any more) or writing
    fails; nothing half-written stays.
    """
    kept = Kept(training, transform.smallest_side if training else aug.size)
    folder = make_cache_folder(data.cache_dir)
    sources = _list_sources(images, kept)
    path = folder / f"{_family(sources)}{_hash(sources)}{SUFFIX}"
    cached = _open_if_whole(path)
    if cached is None:
        with _alone_in(folder):
            cached = _open_if_whole(path)  # made meanwhile by another process
            if cached is None:
                _delete_superseded(folder, images, sources)
                _make(path, images, kept, sources)
                cached = CacheFile(path)
    return cached


def _list_sources(images: ImageSet, kept: Kept) -> dict[str, Any]:
    """All that decides on the content of the cache; it becomes the file's description."""
    files = {file: images.stamp(file) for file in images.files}
    return {"made_by": MADE_BY, "root": os.path.abspath(images.root), "training": kept.training, "side": kept.side, "files": files}


def _family(sources: dict[str, Any]) -> str:
    """How the names of all caches begin that only differ in files and versions."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(sources["root"]))[:40]
    return f"{name}-{'train' if sources['training'] else 'eval'}-{_hash([sources[key] for key in ('root', 'training', 'side')])[:8]}-"


def _hash(item: Any) -> str:
    return hashlib.sha256(json.dumps(item).encode()).hexdigest()[:16]


def _open_if_whole(path: Path) -> CacheFile | None:
    """The cache, or None if it is not there; a damaged one is deleted, with a line on stderr."""
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
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time makes caches in a folder; first it removes what killed ones have left."""
    try:
        with open(folder / f"{SUFFIX}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system however the process ends
            except BlockingIOError:
                print(f"data.cache: waiting for another process that writes to {printable(folder)}", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in folder.glob(f".*{SUFFIX}.*.tmp"):
                leftover.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise unwritable_cache(folder, error) from None


def _delete_superseded(folder: Path, images: ImageSet, sources: dict[str, Any]) -> None:
    """Deletes the caches of this family that will not be used again: of other versions, of files that have changed or are gone, or of
    nothing but files that the new one has too. What remains is of other files, such as another seed's split."""
    for path in folder.glob(f"{_family(sources)}*{SUFFIX}"):
        try:
            old = json.loads(CacheFile(path).description)
        except DamagedFile:
            old = {"made_by": None}
        is_of_others = old["made_by"] == MADE_BY and not old["files"].items() <= sources["files"].items()
        if not (is_of_others and all(images.stamp(file) == stamp for file, stamp in old["files"].items())):
            path.unlink(missing_ok=True)


def _make(path: Path, images: ImageSet, kept: Kept, sources: dict[str, Any]) -> None:
    source = FileSource(images, kept.side if kept.training else None)
    description = json.dumps(sources).encode()
    needed = _require_room(path.parent, images, kept, len(description))
    print(f"data.cache: writing {len(images)} decoded images, {needed / 1e6:,.0f} MB, to {printable(path)}", file=sys.stderr)
    try:
        with atomic_file(path) as file:
            writer = CacheFileWriter(file.fileno(), len(images))
            map_on_cores(lambda index: writer.write(index, kept.of(source.read(index))), len(images), "decoding images")
            writer.finish(description)
    except OSError as error:
        raise RunError(f"data.cache: {printable(path)}: cannot be written: {error.strerror}; {WAYS_OUT}") from None


def _require_room(folder: Path, images: ImageSet, kept: Kept, other: int) -> int:
    """Bytes that the cache needs, by the images' headers. Raises UserError where the disk has less."""

    def measure(index: int) -> int:
        try:
            height, width = kept.size(*read_size(images.image_file(index)))
        except BadImage as error:
            raise RunError(str(error)) from error
        return bytes_of(height, width)

    needed = sum(map_on_cores(measure, len(images), "reading image sizes")) + other
    free = shutil.disk_usage(folder).free
    if needed > free:
        amounts = f"{needed / 1e6:,.0f} MB are needed for decoded images, {free / 1e6:,.0f} MB are free"
        raise UserError(f"data.cache: {printable(folder)}: {amounts}; {WAYS_OUT}")
    return needed
