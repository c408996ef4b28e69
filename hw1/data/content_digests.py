"""Digest what every image file holds, once for as long as it stays as it is. No torch; no image is decoded."""

import hashlib
from collections.abc import Callable, Sequence

from hw1.data.verified_files import Stamp, load_record, save_record
from hw1.runtime.cpu import map_on_cores

RECORD = "image_digests.json"
DIGESTED_BY = "BLAKE2b, 16 bytes"


def digest_contents(locations: Sequence[str], stamps: Sequence[Stamp | None], read_file: Callable[[int], bytes]) -> list[str]:
    """Digest the content of every file, on all cores; a digest is remembered by path and stamp.

    Args:
        locations: Absolute paths of the files, or of archives' files followed by a name.
        stamps: `ImageSet.stamp` of each; None for one that does not exist.
        read_file: Returns the content of the file of an index.

    Returns:
        BLAKE2b of 16 bytes, in hex; "" for a file that cannot be read.
    """
    known = load_record(RECORD, DIGESTED_BY)
    digests = [_remembered(known.get(location), stamp) for location, stamp in zip(locations, stamps, strict=True)]
    unknown = [index for index, digest in enumerate(digests) if not digest and stamps[index] is not None]
    added: dict[str, list[object]] = {}

    def digest(position: int) -> None:
        index = unknown[position]
        try:
            digests[index] = _digest(read_file(index))
        except (OSError, ValueError):
            return
        added[locations[index]] = [stamps[index], digests[index]]

    try:
        map_on_cores(digest, len(unknown), "reading images")
    finally:  # also after an interruption: what was read until then is not read again
        if added:
            save_record(RECORD, DIGESTED_BY, added)
    return digests


def _remembered(entry: object, stamp: Stamp | None) -> str:
    """Return the digest of an entry of the record with this stamp, or ""."""
    if stamp is None or not isinstance(entry, list) or len(entry) != 2 or entry[0] != stamp:
        return ""
    return str(entry[1])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


EMPTY = _digest(b"")
"""Digest of an empty file."""
