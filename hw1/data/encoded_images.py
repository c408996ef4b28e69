"""Archives (`image_set.Archive`) of images that are not files: rows of an Arrow table, images in memory. No torch, no datasets."""

import errno
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hw1.data.verified_files import Stamp, take_stamp


class ArrowImages:
    """The rows of a Hugging Face data set, named `<split>/<row>`. A cell holds the encoded image or the path of its file.

    Args:
        dataset: A `datasets.Dataset`.
        column: Name of its image column, which is not decoded.
        split: Name of the split.
        folders: Where the data set lies. A cell's path is relative to the first of them; outside of all, nothing is read.
    """

    def __init__(self, dataset: Any, column: str, split: str, folders: Sequence[str | Path]) -> None:
        import pyarrow.compute

        self._rows = dataset.select_columns([column])
        self._column = column
        self._split = split
        cells = self._rows.with_format("arrow")[:].column(column)
        lengths = pyarrow.compute.binary_length(pyarrow.compute.struct_field(cells, "bytes"))
        self._sizes = lengths.fill_null(0).to_numpy().tolist()
        self._paths = pyarrow.compute.struct_field(cells, "path").to_pylist() if 0 in self._sizes else None
        tables = [os.path.abspath(file["filename"]) for file in dataset.cache_files]
        self._table = tables[0] if tables else os.path.abspath(split)
        self._changed_at = max((stamp[1] for table in tables if (stamp := take_stamp(table))), default=0)
        self._folders = [os.path.realpath(folder) for folder in folders]
        self.root = Path(self._table).parent
        self.names = tuple(f"{split}/{row:06d}" for row in range(len(dataset)))
        self.has_images = any(self._sizes) or any(self._paths or ())

    def read(self, name: str) -> bytes:
        """Return the encoded image; see `Archive.read`."""
        row = self._row(name)
        if not self._sizes[row]:
            path = self._path(row)
            if os.path.lexists(path) and not self._may_read(path):
                raise OSError(errno.EACCES, "no file within the data set's folder")
            with open(path, "rb") as file:
                return file.read()
        data: bytes = self._rows[row][self._column]["bytes"]
        return data

    def stamp(self, name: str) -> Stamp | None:
        """Return the image's size and the table's last change; see `Archive.stamp`."""
        split, _, row = name.rpartition("/")
        if split != self._split or not row.isdecimal() or int(row) >= len(self._sizes):
            return None
        if size := self._sizes[int(row)]:
            return [size, self._changed_at]
        path = self._path(int(row))
        return take_stamp(path) if self._may_read(path) else None

    def location(self, name: str) -> str:
        """Return the table's path and the row's number, or the path of the image's file; see `Archive.location`."""
        row = self._row(name)
        return f"{self._table}/{row}" if self._sizes[row] else self._path(row)

    def _row(self, name: str) -> int:
        return int(name.rpartition("/")[2])

    def _path(self, row: int) -> str:
        path = (self._paths and self._paths[row]) or f"{self._table}/{row}"  # a row without an image becomes a file that does not exist
        return os.path.join(self._folders[0], path)

    def _may_read(self, path: str) -> bool:
        """Return whether this is a regular file of the data set, which anybody may have written: no device, no link out of it."""
        real = os.path.realpath(path)
        return os.path.isfile(real) and any(os.path.commonpath((folder, real)) == folder for folder in self._folders)


class MemoryImages:
    """Images in memory, named `<split>/<number>`, of a data set that holds all its images in a few files of numbers.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        images: The encoded images.
    """

    def __init__(self, root: Path, split: str, images: Sequence[bytes]) -> None:
        self._root = os.path.abspath(root)
        self.names = tuple(f"{split}/{number:06d}" for number in range(len(images)))
        self._images = dict(zip(self.names, images, strict=True))

    def read(self, name: str) -> bytes:
        """Return the encoded image; see `Archive.read`."""
        return self._images[name]

    def stamp(self, name: str) -> Stamp | None:
        """Return the image's size and CRC-32; see `Archive.stamp`."""
        image = self._images.get(name)
        return None if image is None else [len(image), zlib.crc32(image)]

    def location(self, name: str) -> str:
        """Return the folder's path and the image's name; see `Archive.location`."""
        return os.path.join(self._root, name)


def encode_png(image: Image.Image) -> bytes:
    """Encode an image without loss as grey or RGB PNG, so that it is read as files are."""
    pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    done, png = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return png.tobytes()
