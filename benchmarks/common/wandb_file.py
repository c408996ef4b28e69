"""Read what wandb's client wrote offline: its own records, from the file that `wandb sync` reads."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format (32 KiB blocks of checksum, length, kind, data) after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made when it is imported

    data = path.read_bytes()
    position, whole = 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no header fits before the end of the block
            position += 32768 - position % 32768
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        piece = data[position + 7 : position + 7 + length]
        assert checksum == zlib.crc32(piece, zlib.crc32(bytes([kind])))
        position += 7 + length
        whole += piece
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def values(items: Any) -> dict[str, Any]:
    """The values of a record's items, by name."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
