"""What the wandb client left on disk."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record

from hw1.runs.folder import RunFolder


def records(path: Path) -> Iterator[Record]:
    """The records of a `.wandb` file: LevelDB's log format (32 KiB blocks of checksum, length, kind, data) after seven bytes."""
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
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


class Recorded:
    """What one process left in its file."""

    def __init__(self, path: Path) -> None:
        found = list(records(path))
        kind = [record.WhichOneof("record_type") for record in found]
        self.run = next(record.run for record in found if record.HasField("run"))
        self.config = values(self.run.config.update)
        self.history = [values(record.history.item) for record in found if record.HasField("history")]
        self.metrics = [record.metric for record in found if record.HasField("metric")]
        self.artifacts = [record.artifact for record in found if record.HasField("artifact")]
        self.console = "".join(record.output_raw.line for record in found if record.HasField("output_raw"))
        self.summary: dict[str, Any] = {}
        for record in found:
            self.summary |= values(record.summary.update)
        self.exit_code = next(record.exit.exit_code for record in found if record.HasField("exit"))
        assert kind[0] == "header"


def recorded(run: RunFolder) -> list[Recorded]:
    """One for each process, in order."""
    wandb.teardown()  # waits until everything is written, as the end of the process does
    return [Recorded(path) for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)]
