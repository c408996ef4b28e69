"""What a file from a stranger may hold before any of it is read into memory: no more than its own size, and nothing outside itself."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

MAX_MEMBERS = 100_000
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_zip(path: Path) -> None:
    """Raises `ValueError` for an archive with compressed members (a small file may become any size), ones outside it or far too many.

    numpy and torch write members as they are, so that an archive is as large as what it holds.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"archive of {len(members)} members")
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"archive member {member.filename!r} lies outside the archive")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"archive member {member.filename!r} is compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("archive is smaller than its members")


def check_npz(path: Path) -> None:
    """Raises `ValueError` for an archive of arrays where one claims to be larger than its bytes, or would run code."""
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version not in NPY_HEADERS:
                    raise ValueError(f"{member.filename}: unknown version of numpy's format")
                shape, _, dtype = NPY_HEADERS[version](file)
                if dtype.hasobject:
                    raise ValueError("Object arrays are pickles, which may run code")
                size = dtype.itemsize
                for length in shape:
                    size *= length
                if min(shape, default=0) < 0 or size != member.file_size - file.tell():
                    raise ValueError(f"{member.filename}: does not hold the array {list(shape)} of {dtype} that it claims to")


def check_torch_file(path: Path) -> None:
    """Raises for a file of `torch.save` whose tensors claim more memory than the file has bytes; what is no such file raises anything.

    Reads it to the meta device, on which tensors have shapes and no memory; no code in it is run.
    """
    import argparse

    import torch

    if zipfile.is_zipfile(path):
        check_zip(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training checkpoints hold one
        content = torch.load(path, map_location="meta", weights_only=True)
    sizes: dict[int, int] = {}
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor) and not item.is_sparse:
            storage = item.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    if sum(sizes.values()) > path.stat().st_size:
        raise ValueError(f"claims to hold {sum(sizes.values())} bytes of tensors")
