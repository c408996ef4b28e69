"""Images that lie in no files of their own: rows of an Arrow table, images in memory. No torch, no datasets."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hw1.data.verified_files import Stamp, take_stamp


class Rows:
    """An `Archive` of the rows of a Hugging Face data set, called `<split>/<row>`; a cell holds the encoded image or the path of its file.

    dataset: `datasets.Dataset` whose `column` is an image that is not decoded.
    """

    def __init__(self, dataset: Any, column: str, split: str) -> None:
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
        self._changed = max((stamp[1] for table in tables if (stamp := take_stamp(table))), default=0)
        self.root = Path(self._table).parent
        self.names = tuple(f"{split}/{row:06d}" for row in range(len(dataset)))
        self.has_images = any(self._sizes) or any(self._paths or ())

    def read(self, name: str) -> bytes:
        row = self._row(name)
        if not self._sizes[row]:
            with open(self._path(row), "rb") as file:
                return file.read()
        return self._rows[row][self._column]["bytes"]

    def stamp(self, name: str) -> Stamp | None:
        split, _, row = name.rpartition("/")
        if split != self._split or not row.isdecimal() or int(row) >= len(self._sizes):
            return None
        size = self._sizes[int(row)]
        return [size, self._changed] if size else take_stamp(self._path(int(row)))

    def place(self, name: str) -> str:
        row = self._row(name)
        return f"{self._table}/{row}" if self._sizes[row] else os.path.abspath(self._path(row))

    def _row(self, name: str) -> int:
        return int(name.rpartition("/")[2])

    def _path(self, row: int) -> str:
        return (self._paths and self._paths[row]) or f"{self._table}/{row}"  # a row without an image is a file that is not there


class Encoded:
    """An `Archive` of images in memory, called `<split>/<number>`: of sets that keep all their images in a few files of numbers."""

    def __init__(self, root: Path, split: str, images: Sequence[bytes]) -> None:
        self._root = os.path.abspath(root)
        self.names = tuple(f"{split}/{number:06d}" for number in range(len(images)))
        self._images = dict(zip(self.names, images, strict=True))

    def read(self, name: str) -> bytes:
        return self._images[name]

    def stamp(self, name: str) -> Stamp | None:
        image = self._images.get(name)
        return None if image is None else [len(image), zlib.crc32(image)]

    def place(self, name: str) -> str:
        return os.path.join(self._root, name)


def encode(image: Image.Image) -> bytes:
    """An image without loss, so that it takes the way of all files: as PNG, grey or RGB."""
    pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    done, png = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return png.tobytes()
