"""Check files from unknown sources before they are loaded: they must not claim more memory than they have bytes, nor run code."""

import builtins
import pickle
import pickletools
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from hw1.utils.text import some_of

MAX_MEMBERS = 100_000
MAX_PICKLES = 5  # at the head of torch's older format; the tensors' bytes follow
MAX_DERIVED = 20  # each is found out by one more try
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


class Skipped:
    """What stands in for an object of a file that is neither tensor, number, text nor container.

    Its class or function is not imported, let alone called: nothing of the file's own choice ever is.
    """

    kind = ""
    """Name of the class or function in the file."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_torch_file(path: Path) -> Any:
    """Load a file of `torch.save` to the CPU with torch's own restricted unpickler; no code from the file is run.

    Tensors, numbers, text, lists and dicts come as they are, objects of classes derived from list or dict as those; any other object (a
    path, a date, numpy's numbers, a class of its author's) is a `Skipped`.

    Raises:
        ValueError: The file names functions that run code, its tensors claim more memory than it has bytes, it fails `check_zip`, or is of
            a known other kind; the message says which.
        Exception: Of any kind, if it is no such file.
    """
    stand_ins = _check_torch_file(path)[1]
    return _load(path, "cpu", stand_ins)


def check_torch_file(path: Path) -> None:
    """Check a file of `torch.save` by loading it to the meta device, on which tensors take no memory; no code from it is run.

    Raises:
        ValueError: As `load_torch_file`, and where it holds anything else than tensors, numbers, text, lists and dicts.
        Exception: Of any kind, if it is no such file.
    """
    content, _ = _check_torch_file(path)
    if skipped := {item.kind for item in _items(content) if isinstance(item, Skipped)}:
        raise ValueError(f"holds {some_of(sorted(skipped))}")


def _check_torch_file(path: Path) -> tuple[Any, dict[str, type]]:
    """Return what the file holds, with tensors on the meta device, and what stands in for each class or function that it names."""
    stand_ins = {name: _stand_in(name) for name in sorted(_names_in_file(path))}
    for _ in range(MAX_DERIVED + 1):
        try:
            content = _load(path, "meta", stand_ins)
            _check_size(content, path)
            return content, stand_ins
        except pickle.UnpicklingError as error:
            reason = _reason(error)
            name = next((name for name in stand_ins if reason.endswith(f"<class {name!r}>")), None)
            if name is None or stand_ins[name] in CONTAINERS:
                raise ValueError(reason) from error
            stand_ins[name] = CONTAINERS[0] if "SETITEM" in reason else CONTAINERS[1]
    raise ValueError(f"holds objects of more than {MAX_DERIVED} classes derived from list or dict")


def _load(path: Path, device: str, stand_ins: Mapping[str, type]) -> Any:
    import torch

    pairs: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]  # torch asks only where it has no safe one of its own
    with path.open("rb") as file, torch.serialization.safe_globals(pairs), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other pickle protocols, of storages of old files
        return torch.load(file, map_location=device, weights_only=True)


def _reason(error: pickle.UnpicklingError) -> str:
    """Return torch's reason without its advice to load the file unsafely."""
    text = str(error).partition("Check the documentation")[0].strip().rpartition("\n\n")[2]
    text = " ".join(text.rpartition("WeightsUnpickler error: ")[2].split())
    if "operand" in text:
        return "is written in a pickle protocol that cannot be read safely; torch.save without pickle_protocol writes one that can"
    if "persistent_load" in text:
        return "holds a module of torch with its code, in torch's older format; torch.save(model.state_dict(), FILE) writes its weights"
    return text


class _AsDict:
    """What stands in for a class derived from dict, once torch's unpickler refuses to fill anything else."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()  # the one kind that may get attributes too


class _AsList:
    """The same for list."""

    def __new__(cls, *_: object) -> Any:
        return []


CONTAINERS = (_AsDict, _AsList)


def _stand_in(name: str) -> type:
    module, _, last = name.rpartition(".")
    return type(last, (Skipped,), {"__module__": module, "kind": name})


def _names_in_file(path: Path) -> set[str]:
    """Return the full names of the classes and functions that the file names, without importing any.

    Raises:
        ValueError: One of them runs code; or the archive is none of `torch.save`, or fails `check_zip`.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = _pickle_in(archive)
            check_zip(path)
            with archive.open(member) as file:
                names = _names_in_pickles(file)
    else:
        with path.open("rb") as file:
            names = _names_in_pickles(file)
    if harmful := sorted(name for name in names if _runs_code(name)):
        raise ValueError(f"names {some_of(harmful)}, which runs code; it is not loaded")
    return names


def _pickle_in(archive: zipfile.ZipFile) -> str:
    """Return the name of the member that holds the pickle; they lie in one folder of any name."""
    members = {name.partition("/")[2]: name for name in archive.namelist()}
    if "constants.pkl" in members:
        raise ValueError("is a TorchScript archive, which is code; torch.save(model.state_dict(), FILE) writes the weights alone")
    if any(name.endswith(".npy") for name in archive.namelist()):
        raise ValueError("is a file of numpy's, not of torch.save")
    if "data.pkl" not in members:
        raise ValueError("is an archive, but none of torch.save")
    return members["data.pkl"]


def _runs_code(name: str) -> bool:
    """Say whether the name is of a built-in function or the system's; those of classes and of other modules are never looked up."""
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return not isinstance(getattr(builtins, last, None), type)
    return module.partition(".")[0] in ("os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "pty")


def _names_in_pickles(file: IO[bytes]) -> set[str]:
    """Return the full names of classes and functions in the pickles from here on, without loading any of them."""
    names = set()
    with suppress(ValueError):  # no pickle, or a damaged one, which torch will say
        for _ in range(MAX_PICKLES):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # Python 2's
                    names.add(f"{module}.{name}")
    return names


def _check_size(content: Any, path: Path) -> None:
    import torch

    sizes: dict[int, int] = {}
    for item in _items(content):
        if isinstance(item, torch.Tensor) and not item.is_sparse:
            storage = item.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
    if sum(sizes.values()) > path.stat().st_size:
        raise ValueError(f"claims to hold {sum(sizes.values())} bytes of tensors")


def _items(content: Any) -> Iterator[Any]:
    """Iterate over everything in nested containers, each container once: a pickle may contain itself."""
    pending, seen = [content], set()
    while pending:
        item = pending.pop()
        yield item
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            pending += [*item, *item.values()]
        elif isinstance(item, list | tuple | set):
            pending += item
