"""Where the numbers of a run go besides its folder: console and wandb."""

import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hw1.config.recipe import LogConfig, Recipe
from hw1.runs.folder import RunFolder
from hw1.utils.console import say

Row = dict[str, Any]


class WandbRun:
    """A run of the real wandb client; the same id continues it. `epoch` is the x-axis of every curve."""

    def __init__(self, recipe: Recipe, run: RunFolder, run_id: str | None, last_epoch: int) -> None:
        """Starts the client, or continues run `run_id`, which should have the epochs up to `last_epoch` already.

        Of those logged again it takes what it lacks: wandb holds the last ones in memory, and a process may be killed.

        `log.wandb: online` becomes `offline`, with one line said, where there is no API key or the server cannot be used.
        """
        import wandb  # only when it is on: the import takes a second, and the user may not want it at all

        self._wandb = wandb
        self._run = _start_client(
            recipe.log,
            run.path,
            {
                "group": recipe.log.group or recipe.run.name,
                "tags": list(recipe.log.tags),
                "name": f"{recipe.run.name}-seed{recipe.seed}",
                "id": run_id,
                "config": recipe.model_dump(mode="json"),
            },
        )
        self._last_epoch = min(last_epoch, _last_recorded(run.path, run_id, self._run)) if run_id else 0
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    @property
    def id(self) -> str:
        return str(self._run.id)

    def log(self, row: Row) -> None:
        """Sends the row of one epoch, once: it may be there already."""
        if row["epoch"] > self._last_epoch:
            self._run.log(row, step=2 * row["epoch"], commit=True)  # odd steps are for images; wandb drops a step that comes twice
            self._last_epoch = row["epoch"]

    def finish(self, summary: Mapping[str, Any], figures: Mapping[str, Path]) -> None:
        """Sends the images that exist and the summary, and ends the client."""
        images = {name: self._wandb.Image(str(path)) for name, path in figures.items() if path.is_file()}
        if images:
            self._run.log(images, step=2 * self._last_epoch + 1, commit=True)
        self._run.summary.update(dict(summary))
        self._run.finish()

    def stop(self) -> None:
        """Ends the client without calling the run finished."""
        self._run.finish(exit_code=1)


def log_report(config: LogConfig, folder: Path, tables: Mapping[str, Sequence[Row]], images: Mapping[str, Path]) -> None:
    """Sends a report as one more run, with the project, entity and group of `config` and by its mode; wandb's files go to `folder`.

    `tables` are rows with the same keys, numbers and text; None stays empty.
    """
    import wandb

    client = _start_client(config, folder, {"name": "report", "job_type": "report", "group": config.group, "tags": ["report"]})
    content: dict[str, Any] = {}
    for name, rows in tables.items():
        columns: list[str | int] = list(rows[0])
        content[name] = wandb.Table(columns=columns, data=[list(row.values()) for row in rows], allow_mixed_types=True)
    client.log(content | {name: wandb.Image(str(path)) for name, path in images.items()})
    client.finish()


def _start_client(config: LogConfig, folder: Path, arguments: Mapping[str, Any]) -> Any:
    import wandb

    arguments = {
        **arguments,
        "project": config.project,
        "entity": config.entity,
        "dir": folder,
        "settings": wandb.Settings(console="off", silent=True),
    }
    if config.wandb == "online":
        reason = "no API key found (`wandb login`)"
        try:
            if _has_api_key(wandb.setup().settings):
                client = wandb.init(mode="online", resume="allow", **arguments)
                say(f"wandb: {client.url}")
                return client
        except wandb.Error as error:  # a wrong key, or no way to the server: no reason not to train
            reason = str(error).partition("\n")[0].rstrip(".")
        say(f"wandb: {reason}, so this run is recorded offline; `wandb sync {folder}/wandb/offline-*` uploads it later")
    return wandb.init(mode="offline", **arguments)


def _last_recorded(folder: Path, run_id: str, client: Any) -> int:
    """The last epoch that an earlier process of this run has brought to the server or, offline, to the disk."""
    if not client.offline:
        return max(client.step - 1, 0) // 2  # as `WandbRun.log` counts steps
    last = 0
    for path in folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"):
        with suppress(Exception):  # its end may be torn
            for record in _read_records(path.read_bytes()):
                found = [item.value_json for item in record.history.item if "epoch" in (item.key, *item.nested_key)]
                last = max([last, *map(int, found)])
    return last


def _read_records(data: bytes) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format, blocks of 32 KiB with pieces of records, after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    read = wandb_internal_pb2.Record.FromString  # type: ignore[attr-defined]  # made when it is imported
    block, position, whole = 32_768, 7, b""
    while position + 7 <= len(data):
        if block - position % block < 7:  # filled up
            position += block - position % block
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield read(whole)
            whole = b""


def _has_api_key(settings: Any) -> bool:
    """Whether wandb has credentials: in the environment, its settings or the netrc file. Its own answers differ between versions, and
    ask the server or the user too.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    usual = next((path for path in ("~/.netrc", "~/_netrc") if Path(path).expanduser().exists()), "~/.netrc")
    try:
        entries = netrc.netrc(Path(os.environ.get("NETRC") or usual).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = (urlsplit(settings.base_url).netloc, "api.wandb.ai")  # newer clients know the public server by other names too
    return any(entries.authenticators(host) for host in hosts)
