"""What the wandb client left on disk."""

from pathlib import Path
from typing import Any

import wandb

from benchmarks.common.wandb_file import records, values
from hw1.runs.folder import RunFolder


class Recorded:
    """What one process left in its file."""

    def __init__(self, path: Path) -> None:
        wandb.teardown()  # of this process' client: waits until everything is written, as the end of the process does
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
    """One for each process, in the order in which they ended."""
    wandb.teardown()
    return [Recorded(path) for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)]
