"""Index WebDataset shards on disk, so that the images in these tar files are read by offset, in any order. No torch; opens no image.

A sample is a run of members whose names agree up to the first dot of the last part; the rest of a name, in lower case, is its field.
A sample's image is the first of its fields that is an image, its label the number in `.cls`, or the number in a field of `.json`.
"""

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from hw1.data.image_set import ImageSet
from hw1.data.list_files import IMAGE_SUFFIXES
from hw1.data.verified_files import Stamp, take_stamp
from hw1.errors import RunError, UserError
from hw1.runtime.cpu import map_on_cores
from hw1.utils.files import cache_folder, write_atomic
from hw1.utils.text import printable

IMAGE_FIELDS = ("jpg", "png", "webp", *sorted(suffix[1:] for suffix in IMAGE_SUFFIXES - {".jpg", ".png", ".webp"}))
"""timm's order, then all else that counts as an image."""
MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
META = re.compile(r"__[^/]*__($|/)")
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, Zstandard
INDEXED_BY = 1  # raise it when the content of an index changes
NUM_NAMED = 3
Group = dict[str, tarfile.TarInfo]
"""The members of a sample by field."""


class Sample(NamedTuple):
    """A sample of a shard that has an image."""

    member: str
    """Name of the image in the shard."""
    offset: int
    """Where the encoded image begins in the shard, bytes."""
    size: int
    """Of the encoded image, bytes."""
    label: int
    """-1 for a sample without a label."""


class ShardImages:
    """An `Archive` of the images in shards, named `<shard>/<member>`.

    Args:
        root: Folder of the shards.
        shards: Paths relative to `root`.
        indices: The samples of each shard.

    Raises:
        UserError: Two images have the same name.
    """

    def __init__(self, root: Path, shards: Sequence[str], indices: Sequence[Sequence[Sample]]) -> None:
        self._root = os.path.abspath(root)
        self._shards = tuple(shards)
        self._changed_at = [(take_stamp(os.path.join(root, shard)) or [0, 0])[1] for shard in shards]
        # int64 [N, 3]: number of the shard, offset and size in bytes
        self._extents = np.array(
            [(number, sample.offset, sample.size) for number, index in enumerate(indices) for sample in index], np.int64
        ).reshape(-1, 3)
        self.names = tuple(f"{shard}/{sample.member}" for shard, index in zip(shards, indices, strict=True) for sample in index)
        self._positions = {name: position for position, name in enumerate(self.names)}
        if len(self._positions) < len(self.names):
            duplicate = next(name for position, name in enumerate(self.names) if self._positions[name] != position)
            raise UserError(f"data.root: {printable(self.location(duplicate))}: comes twice")

    def read(self, name: str) -> bytes:
        """Return the encoded image; see `Archive.read`."""
        number, offset, size = self._extents[self._positions[name]].tolist()
        with open(os.path.join(self._root, self._shards[number]), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def stamp(self, name: str) -> Stamp | None:
        """Return the image's size and the shard's last change; see `Archive.stamp`."""
        if (position := self._positions.get(name)) is None:
            return None
        number, _, size = self._extents[position].tolist()
        return [size, self._changed_at[number]]

    def location(self, name: str) -> str:
        """Return the shard's path followed by the member's name; see `Archive.location`."""
        return os.path.join(self._root, name)


def open_shards(root: Path, shards: Sequence[str], image_fields: Sequence[str], label_field: str | None) -> tuple[ImageSet, int]:
    """Open the images of shards, in the shards' order and with the shards' own labels.

    Each shard is indexed once: the index stays in the user's cache folder and is used again while the shard does not change.

    Args:
        root: Folder of the shards.
        shards: Paths relative to `root`.
        image_fields: Fields that may hold the image, preferred ones first.
        label_field: Field of the samples' `.json` that holds the label; None reads `.cls`.

    Returns:
        The images, and the number of all samples. Samples without an image are strays; samples without a label have label -1.

    Raises:
        UserError: Shards are missing, compressed, damaged or no tar files, or labels are no integers.
    """
    missing = [shard for shard in shards if not os.path.isfile(root / shard)]
    if missing:
        raise UserError(
            *(f"data.root: {printable(root / shard)}: no such shard" for shard in missing[:NUM_NAMED]),
            *([f"data.root: {len(missing)} of {len(shards)} shards are missing"] if len(missing) > NUM_NAMED else []),
        )
    indexed = map_on_cores(lambda i: _load_index(root / shards[i], image_fields, label_field), len(shards), "indexing shards")
    num_samples = sum(num for _, num in indexed)
    indices = [index for index, _ in indexed]
    archive = ShardImages(root, shards, indices)
    labels = np.array([sample.label for index in indices for sample in index], np.int64)
    return ImageSet(root, archive.names, labels, num_samples - len(archive.names), archive), num_samples


def _load_index(path: Path, image_fields: Sequence[str], label_field: str | None) -> tuple[list[Sample], int]:
    """Return `_index(...)` of the shard, from the user's cache folder if the shard has not changed."""
    made_from = [INDEXED_BY, take_stamp(str(path)), list(image_fields), label_field]
    key = hashlib.sha256(json.dumps([os.path.abspath(path), *made_from[2:]]).encode()).hexdigest()[:24]
    index_path = cache_folder() / "shards" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        saved = json.loads(index_path.read_bytes())
        if saved["made_from"] == made_from:
            return [Sample(*sample) for sample in saved["samples"]], int(saved["num"])
    samples, num = _index(path, image_fields, label_field)
    with contextlib.suppress(OSError, RunError):  # it only saves time
        index_path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(index_path, json.dumps({"made_from": made_from, "samples": samples, "num": num}).encode())
    return samples, num


def _index(path: Path, image_fields: Sequence[str], label_field: str | None) -> tuple[list[Sample], int]:
    """Return the samples of a shard that have an image, and the number of all its samples."""
    try:
        with open(path, "rb") as file:
            if file.read(6).startswith(COMPRESSED):
                raise UserError(f"data.root: {printable(path)}: compressed; unpack it, so that its samples can be read in any order")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                groups = list(_group_members(path, tar))
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a header that it cannot read for the end
                    raise tarfile.ReadError(f"cut off or damaged at byte {tar.offset:,}")
            samples = [_read_sample(path, file, group, image_fields, label_field) for group in groups]
    except tarfile.TarError as error:
        raise UserError(f"data.root: {printable(path)}: no whole tar file: {error}") from None
    except OSError as error:
        raise UserError(f"data.root: {printable(path)}: cannot be read: {error.strerror}") from None
    return [sample for sample in samples if sample is not None], len(samples)


def _group_members(path: Path, tar: tarfile.TarFile) -> Iterator[Group]:
    """Yield the members of each sample."""
    key: str | None = None
    group: Group = {}
    for info in tar:
        parts = MEMBER.fullmatch(info.name)
        if parts is None or not info.isreg() or info.issparse() or META.match(info.name):
            continue
        field = parts[2].lower()
        if parts[1] != key:
            if group:
                yield group
            key, group = parts[1], {}
        if field in group:
            raise UserError(f"data.root: {printable(path / info.name)}: comes twice")
        group[field] = info
    if group:
        yield group


def _read_sample(path: Path, file: BinaryIO, group: Group, image_fields: Sequence[str], label_field: str | None) -> Sample | None:
    """Return the sample, None if it has no image."""
    image = next((group[field] for field in image_fields if field in group), None)
    if image is None:
        return None
    info = group.get("cls" if label_field is None else "json")
    if info is None and label_field is not None:
        raise UserError(f"data.root: {printable(path / image.name)}: has no .json beside it that holds {label_field!r}")
    label = -1 if info is None else _read_label(path, file, info, label_field)
    return Sample(image.name, image.offset_data, image.size, label)


def _read_label(path: Path, file: BinaryIO, info: tarfile.TarInfo, field: str | None) -> int:
    """Return the label; -1 for a negative number, with which timm's shards mark a sample without a label."""
    file.seek(info.offset_data)
    content = file.read(info.size)
    try:
        value = content if field is None else _get_field(json.loads(content), field)
        label = int(value)
        if label != float(value):
            raise ValueError(value)
    except (ValueError, TypeError, LookupError):
        problem = f"has no integer {field!r}" if field else "is no integer"
        raise UserError(f"data.root: {printable(path / info.name)}: {problem}: {content[:80]!r}") from None
    return max(label, -1)


def _get_field(content: Any, name: str) -> Any:
    """Return a field by its name, or by a path with slashes into nested ones."""
    for part in [name] if name in content else name.split("/"):
        content = content[part]
    return content
