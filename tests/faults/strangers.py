"""Files that would run code, or claim to be larger than they are, to every reader of checkpoints, weights and predictions."""

import json
import random
import resource
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from helpers.hostile_files import READERS, npy, payloads, pickled, rewritten, with_digest

from faults.tally import Tally, expect
from hw1.errors import UserError
from hw1.models.weights import WeightsError


def pickle_payloads(tally: Tally, folder: Path, n: int) -> None:
    """Six payloads in five formats, with and without a valid checksum, to each reader, `n` times over; the canary stays silent."""
    folder.mkdir(parents=True, exist_ok=True)
    canary = folder / "canary"
    for i in range(n):
        for kind in ("torch", "legacy", "plain", "tar", "numpy"):
            for name, content in payloads(canary).items():
                data = pickled({"format": 1, "state_dict": content} if kind != "numpy" else content, kind)
                for reader, read in READERS.items():
                    for variant in (data, with_digest(data)):
                        with tally.attempt(f"{name} as {kind} to {reader}, {i}"):
                            (folder / reader).write_bytes(variant)
                            try:
                                read(folder / reader)
                            except (UserError, WeightsError) as error:
                                expect("\n" not in str(error), f"unclear: {error}")
                            else:
                                expect(False, "was loaded")
                            expect(not canary.exists(), "code was run")


def absurd_files(tally: Tally, folder: Path, n: int) -> None:
    """Files that claim to hold more than they do, would unpack to more, or have members outside: `n` sizes and names of each kind.

    Each is refused, without memory of that size, and nothing is written beside it.
    """
    inner = folder / "inner" / "folder"
    inner.mkdir(parents=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(n):
        for what, path in _absurd(inner, random.Random(f"absurd {i}")):
            with tally.attempt(f"{what}, {i}"):
                try:
                    READERS[path.name](path)
                except (UserError, WeightsError) as error:
                    expect("\n" not in str(error), f"unclear: {error}")
                else:
                    expect(False, "was loaded")
                expect([*inner.iterdir()] == [path] and [*folder.iterdir()] == [inner.parent], "something was written")
            path.unlink()
    with tally.attempt("memory"):
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        expect(more < 200, f"took {more} MiB more")


def _absurd(folder: Path, rng: random.Random) -> Iterator[tuple[str, Path]]:
    count = rng.randrange(10**9, 2**31)
    for is_zip in (True, False):
        path = folder / "weights.pth"
        torch.save({"w": torch.arange(1000.0)}, path, _use_new_zipfile_serialization=is_zip)
        claim = b"J" + count.to_bytes(4, "little")  # in place of 1000
        if is_zip:
            rewritten(path, lambda name, data, claim=claim: (name, data.replace(b"M\xe8\x03", claim)))
        else:
            path.write_bytes(path.read_bytes().replace(b"M\xe8\x03", claim))
        yield f"tensor of {count} numbers", path
    path = folder / "weights.pth"
    torch.save({"w": torch.zeros(1 << rng.randrange(20, 25))}, path)
    rewritten(path, lambda name, data: (name, data), zipfile.ZIP_DEFLATED)
    yield "compressed weights", path
    path = folder / "predictions.npz"
    np.savez_compressed(path, index=np.zeros(1 << rng.randrange(18, 23)))
    yield "compressed predictions", path
    for shape in ((count * 1000,), (2**62, 4), (10**6, count), (0, 2**62), (-1,), (3,)):
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("index", "logits", "labels", "files", "class_names"):
                archive.writestr(f"{name}.npy", npy(shape, b"12345678"))
        yield f"predictions of shape {shape}", path
    size = count * 10_000
    for offsets, shape in (([0, size], [size // 4]), ([0, 8], [size // 4]), ([0, 8], [2**62, 2**62]), ([size, size + 8], [2])):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
        for name in ("best.safetensors", "weights.safetensors"):
            for length in (len(header), size):
                path = folder / name
                path.write_bytes(struct.pack("<Q", length) + header + bytes(8))
                yield f"{name} of {shape} at {offsets}, header of {length} bytes", path
    for escape in ("../escaped", "/tmp/escaped", "archive/../../escaped", "a/" * rng.randrange(1, 9) + "../" * 9 + "escaped"):
        for name in ("weights.pth", "predictions.npz"):
            path = folder / name
            torch.save({"w": torch.zeros(4)}, path)
            rewritten(path, lambda own, data, escape=escape: (escape if own.endswith("data/0") else own, data))
            yield f"member {escape}", path
