"""Check files from unknown sources before they are loaded: they must not claim more memory than they have bytes, nor run code."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

MAX_MEMBERS = 100_000
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_zip(path: Path) -> None:
    """Check that a zip archive is not larger once unpacked: numpy and torch store members uncompressed.

    Raises:
        ValueError: Members are compressed (a small file may then unpack to any size), lie outside the archive, or are too many.
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
    """Check the headers of an `.npz` archive's arrays.

    Raises:
        ValueError: An array claims another size than its bytes have, holds Python objects (pickles, which may run code), or the archive
            fails `check_zip`.
    """
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
    """Check a file of `torch.save` by loading it to the meta device, on which tensors take no memory; no code from it is run.

    Raises:
        ValueError: Its tensors claim more memory than the file has bytes, or the archive fails `check_zip`.
        Exception: Of any kind, if it is no such file.
    """
    import argparse

    import torch

    if zipfile.is_zipfile(path):
        check_zip(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training checkpoints hold one
        content = torch.load(path, map_location="meta", weights_only=True)
    sizes: dict[int, int] = {}
    pending = [content]
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor) and not item.is_sparse:
            storage = item.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
        elif isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list | tuple):
            pending += item
    if sum(sizes.values()) > path.stat().st_size:
        raise ValueError(f"claims to hold {sum(sizes.values())} bytes of tensors")
