"""Store decoded images in one file that is written once and then memory-mapped. No torch, no cv2.

Layout, little-endian: header; the pixels of each image, uint8 [H, W, 3], padded with zeros to whole 64-bit words; the table of the images
(`ENTRY`); and a description of what they were made from, any bytes. The header is written last.
"""

import mmap
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.errors import RunError
from hw1.utils.text import printable

HEADER = struct.Struct("<8sQQQ")  # magic, number of images, bytes of the description, bytes of the file; the CRC-32 follows
CRC = struct.Struct("<Q")  # of header, table and description
MAGIC = b"hw1pics1"
ENTRY = np.dtype([("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("sum", "<u8")])
WORD = 8


class DamagedFile(RunError):
    """The cache file is torn, altered or gone."""


class _Mapped(NamedTuple):
    content: NDArray[np.uint8]
    """The whole file."""
    table: NDArray[np.void]
    """`ENTRY` [N]."""
    description_size: int
    """Bytes."""


class CacheFile:
    """An `ImageSource` over a file that `CacheFileWriter` wrote.

    The file is mapped for reading. A forked process has the same map; pickling carries the path only, and the first use maps the file
    again. The memory is the kernel's page cache, which all processes share and which is given up when memory is short.

    Raises:
        DamagedFile: The file is not as it was written; here and wherever it is mapped.
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
        """What the images were made from."""
        content, _, size = self._map()
        return content[len(content) - size :].tobytes()

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`: uint8 [H, W, 3], a read-only view of the file.

        Raises:
            DamagedFile: The file, or the image's pixels, have changed.
        """
        content, table, _ = self._map()
        offset, height, width, checksum = table[index].item()
        size = 3 * height * width
        if _checksum(content[offset : offset + _padded(size)]) != checksum:  # at memory speed: a few microseconds
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
    """Raise ValueError unless header, length, table and description are as they were written."""
    if len(content) < HEADER.size + CRC.size:
        raise ValueError(f"torn: {len(content)} bytes")
    magic, count, description_size, length = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise ValueError("not a file of images")
    if length != len(content):
        raise ValueError(f"torn: {len(content):,} bytes in place of {length:,}")
    start = length - description_size - count * ENTRY.itemsize
    crc = zlib.crc32(content[start:], zlib.crc32(content[: HEADER.size])) if start >= HEADER.size + CRC.size else None
    if CRC.unpack_from(content, HEADER.size) != (crc,):
        raise ValueError("its table is damaged")
    return _Mapped(np.frombuffer(content, np.uint8), np.frombuffer(content, ENTRY, count, start), description_size)


class CacheFileWriter:
    """Write the images 0 to `count` - 1 in any order and from any threads; `finish` makes the file a readable one.

    Args:
        descriptor: Of an empty file that is open for writing.
        count: Number of images.

    Raises:
        OSError: From any method, where the system cannot write.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self._descriptor = descriptor
        self._table = np.zeros(count, ENTRY)
        self._end = HEADER.size + CRC.size
        self._lock = threading.Lock()

    def write(self, index: int, image: NDArray[np.uint8]) -> None:
        """Write image `index`: uint8 [H, W, 3]."""
        words = np.zeros(_padded(image.size), np.uint8)
        words[: image.size] = image.reshape(-1)
        with self._lock:
            offset = self._end
            self._end += len(words)
        self._write(offset, words.data)
        self._table[index] = (offset, *image.shape[:2], _checksum(words))

    def finish(self, description: bytes) -> None:
        """Write the table, the description and the header; call once, after all images."""
        tail = self._table.tobytes() + description
        header = HEADER.pack(MAGIC, len(self._table), len(description), self._end + len(tail))
        self._write(self._end, memoryview(tail))
        self._write(0, memoryview(header + CRC.pack(zlib.crc32(tail, zlib.crc32(header)))))

    def _write(self, offset: int, data: memoryview) -> None:
        while data:  # the system may write less than it was given
            written = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + written, data[written:]


def stored_size(height: int, width: int) -> int:
    """Return the bytes that an image takes in the file, its table entry included."""
    return _padded(3 * height * width) + ENTRY.itemsize


def _checksum(words: NDArray[np.uint8]) -> int:
    """Return the sum of the 64-bit words in uint8 [N], modulo 2^64: any flipped bit and any block overwritten by zeros changes it."""
    return int(np.add.reduce(words.view("<u8")))


def _padded(size: int) -> int:
    return -(-size // WORD) * WORD
