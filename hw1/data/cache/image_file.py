"""One file of decoded images, written once and then memory-mapped. No torch, no cv2.

Little-endian: head; the pixels of each image, uint8 [H, W, 3], filled up with zeros to whole 64-bit words; the table of their places; and
a description of what they were made from, any bytes. The head is written last.
"""

import mmap
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hw1.errors import RunError
from hw1.utils.text import printable

HEAD = struct.Struct("<8sQQQ")  # magic, number of images, bytes of the description, bytes of the file; their CRC-32 and the tail's follow
CHECK = struct.Struct("<Q")
MAGIC = b"hw1pics1"
PLACE = np.dtype([("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("sum", "<u8")])
WORD = 8


class DamagedFile(RunError):
    """The file is torn, altered or gone."""


class _Mapped(NamedTuple):
    content: np.ndarray
    """uint8, the whole file."""
    table: np.ndarray
    described: int
    """Bytes of the description."""


class CacheFile:
    """A `ImageSource` over a file that `CacheFileWriter` made. Raises DamagedFile, here and wherever it is opened.

    The file is mapped for reading. A forked process has the same map; pickling carries the path alone, and the first use maps it again.
    The memory behind it is the kernel's page cache, shared by all processes and given up when memory is short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped: _Mapped | None = None
        self._map()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_mapped": None}

    def __len__(self) -> int:
        return len(self._map().table)

    @property
    def description(self) -> bytes:
        content, _, described = self._map()
        return content[len(content) - described :].tobytes()

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3] of image `index`, a read-only view of the file. Raises DamagedFile, also for pixels that have changed."""
        content, table, _ = self._map()
        offset, height, width, total = table[index].item()
        size = 3 * height * width
        if _sum(content[offset : offset + _whole_words(size)]) != total:  # at memory speed: a few microseconds
            raise DamagedFile(f"{printable(self.path)}: image {index} is damaged; delete the file, and it is made anew")
        return content[offset : offset + size].reshape(height, width, 3)

    def _map(self) -> _Mapped:
        if self._mapped is None:
            try:
                with open(self.path, "rb") as file:
                    self._mapped = _check(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (OSError, ValueError) as error:
                raise DamagedFile(f"{printable(self.path)}: {getattr(error, 'strerror', None) or error}") from error
        return self._mapped


def _check(content: mmap.mmap) -> _Mapped:
    """Raises ValueError unless head, length, table and description are as they were written."""
    if len(content) < HEAD.size + CHECK.size:
        raise ValueError(f"torn: {len(content)} bytes")
    magic, count, described, length = HEAD.unpack_from(content)
    if magic != MAGIC:
        raise ValueError("not a file of images")
    if length != len(content):
        raise ValueError(f"torn: {len(content):,} bytes in place of {length:,}")
    start = length - described - count * PLACE.itemsize
    check = zlib.crc32(content[start:], zlib.crc32(content[: HEAD.size])) if start >= HEAD.size + CHECK.size else None
    if CHECK.unpack_from(content, HEAD.size) != (check,):
        raise ValueError("its table is damaged")
    return _Mapped(np.frombuffer(content, np.uint8), np.frombuffer(content, PLACE, count, start), described)


class CacheFileWriter:
    """Writes the images 0 ... `count` - 1 in any order, from any threads, to an empty file; then `finish` makes it a readable one.

    Errors of the system are raised as they come.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self._descriptor = descriptor
        self._table = np.zeros(count, PLACE)
        self._end = HEAD.size + CHECK.size
        self._lock = threading.Lock()

    def write(self, index: int, image: np.ndarray) -> None:
        """`image`: uint8 [H, W, 3]."""
        words = np.zeros(_whole_words(image.size), np.uint8)
        words[: image.size] = image.reshape(-1)
        with self._lock:
            offset = self._end
            self._end += len(words)
        self._write(offset, words.data)
        self._table[index] = (offset, *image.shape[:2], _sum(words))

    def finish(self, description: bytes) -> None:
        tail = self._table.tobytes() + description
        head = HEAD.pack(MAGIC, len(self._table), len(description), self._end + len(tail))
        self._write(self._end, memoryview(tail))
        self._write(0, memoryview(head + CHECK.pack(zlib.crc32(tail, zlib.crc32(head)))))

    def _write(self, offset: int, data: memoryview) -> None:
        while data:  # the system may take less than it was given
            written = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + written, data[written:]


def bytes_of(height: int, width: int) -> int:
    """What an image takes in the file."""
    return _whole_words(3 * height * width) + PLACE.itemsize


def _sum(words: np.ndarray) -> int:
    """Of the 64-bit words in uint8 [N], modulo 2^64: any flipped bit and any block of zeros in their place changes it."""
    return int(np.add.reduce(words.view("<u8")))


def _whole_words(size: int) -> int:
    return -(-size // WORD) * WORD
