"""Weights & Biases: the client of a run, and the tables of a report as a run."""

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from hw1.config.recipe import LogConfig, Recipe
from hw1.runs.folder import RunFolder
from hw1.tracking.names import BEST, EPOCH_NAMES, STEP_NAMES
from hw1.tracking.tracker import At, FileSet, Table
from hw1.utils.console import say

STEP_AXIS, EPOCH_AXIS = "train/step", "epoch"
SLOTS = 100
"""wandb drops a row whose number does not rise, so that every row of a run has a number of its own: this many for an optimizer step."""
FIRST_FREE_SLOT = 4  # for evaluations; those of training are numbers, numbers of the epoch, images, tables


class WandbTracker:
    """A run of the wandb client. Curves of steps have `train/step` as x-axis, all others `epoch`.

    A continued run has the same id. Online, rows that the server has are left out; offline they are written again, with the same numbers
    in the same rows, as a killed process may not have written its last ones.

    Args:
        recipe: Recipe of the run.
        run: Its folder.
        run_id: wandb's id of the run to continue, None for a new one.
        content: What the run sends, in words.
        config: The run's config; None leaves the one that it has.
    """

    def __init__(self, recipe: Recipe, run: RunFolder, run_id: str | None, content: str, config: Mapping[str, Any] | None) -> None:
        labels = {"group": recipe.log.group or recipe.run.name, "tags": list(recipe.log.tags), "name": _name(recipe)}
        console = os.environ.get("WANDB_CONSOLE", "wrap")  # its other ways replace the process' streams by a terminal of its own
        self._wandb = _import()
        self._run = _start_client(recipe.log, run.path, {**labels, "id": run_id, "config": config}, console)
        if self._run.offline:
            say(f"wandb: {run.path}/wandb, from where `wandb sync` sends {content}; nothing leaves this machine before")
        else:
            say(f"wandb: {self._run.url} is sent {content}; log.upload says what")
        self._next = 0 if self._run.offline else self._run.step
        self._run.define_metric(EPOCH_AXIS)
        self._run.define_metric(STEP_AXIS, hidden=True)
        self._run.define_metric("*", step_metric=EPOCH_AXIS)
        for name in STEP_NAMES.values():
            self._run.define_metric(name, step_metric=STEP_AXIS)
        for name in EPOCH_NAMES.values():
            self._run.define_metric(name, step_metric=EPOCH_AXIS, summary=BEST.get(name))

    @property
    def id(self) -> str:
        """Id of the run on the server."""
        return str(self._run.id)

    def scalars(self, values: Mapping[str, float], at: At) -> None:
        """Send a row of numbers."""
        self._log(values, at, 0 if at.epoch is None else 1)

    def images(self, images: Mapping[str, Image.Image], at: At) -> None:
        """Send pictures."""
        self._log({name: self._image(image) for name, image in images.items()}, at, 2)

    def tables(self, tables: Mapping[str, Table], at: At) -> None:
        """Send tables; a picture in a cell is shown there."""
        self._log({name: self._table(table) for name, table in tables.items()}, at, 3)

    def files(self, files: FileSet) -> None:
        """Send an artifact: data as the run's input, anything else as its output."""
        artifact = self._wandb.Artifact(files.name, files.kind, metadata=dict(files.metadata))
        for name, content in files.files.items():
            if isinstance(content, bytes):
                with artifact.new_file(name, "wb") as file:
                    file.write(content)
            else:
                artifact.add_file(str(content), name)
        for name, uri in files.references.items():
            artifact.add_reference(uri, name, checksum=False)  # an entry for each file in it, of which only name and size are read
        if files.kind == "dataset" and not self._run.offline:  # the client cannot state an input offline: there it is an output
            self._run.use_artifact(artifact)
        else:
            self._run.log_artifact(artifact, aliases=["latest", *files.aliases])

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(dict(values))

    def finish(self, *, failed: bool) -> None:
        """End the client; wandb shows the run as finished or as failed."""
        self._run.finish(exit_code=int(failed))

    def _log(self, values: Mapping[str, Any], at: At, slot: int) -> None:
        row = SLOTS * at.step + slot
        if values and row >= self._next:
            axis = {STEP_AXIS: at.step} if at.epoch is None else {EPOCH_AXIS: at.epoch}
            self._run.log({**values, **axis}, step=row, commit=True)

    def _image(self, image: Image.Image) -> Any:
        return self._wandb.Image(image, file_type="jpg" if image.info.get("photograph") else "png")

    def _table(self, table: Table) -> Any:
        rows = [[self._image(cell) if isinstance(cell, Image.Image) else cell for cell in row] for row in table.rows]
        return self._wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)


class WandbEvaluation(WandbTracker):
    """The run again, after its training: rows are added after those that it has.

    Args:
        num_former: Evaluations before this one.
    """

    def __init__(self, recipe: Recipe, run: RunFolder, run_id: str, content: str, num_former: int) -> None:
        super().__init__(recipe, run, run_id, content, None)
        self._slot = min(FIRST_FREE_SLOT + 3 * num_former, SLOTS - 3)

    def _log(self, values: Mapping[str, Any], at: At, slot: int) -> None:
        row = max(SLOTS * at.step + self._slot, self._run.step)
        self._run.log({**values, EPOCH_AXIS: at.epoch}, step=row, commit=True)
        self._slot += 1


def log_report(config: LogConfig, folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], images: Mapping[str, Path]) -> None:
    """Send a report as a run.

    Args:
        config: Project, entity, group and mode of the run.
        folder: Where wandb writes its files.
        tables: Rows of numbers and text with the same keys; None is an empty cell.
        images: Files by name.
    """
    wandb = _import()
    client = _start_client(config, folder, {"name": "report", "job_type": "report", "group": config.group, "tags": ["report"]}, "off")
    content: dict[str, Any] = {}
    for name, rows in tables.items():
        columns: list[str | int] = list(rows[0])
        content[name] = wandb.Table(columns=columns, data=[list(row.values()) for row in rows], allow_mixed_types=True)
    client.log(content | {name: wandb.Image(str(path)) for name, path in images.items()})
    client.finish()


def _import() -> Any:
    import wandb  # only when it is used: the import takes a second, and wandb may not be installed

    return wandb


def _name(recipe: Recipe) -> str:
    return os.environ.get("WANDB_NAME") or f"{recipe.run.name}-seed{recipe.seed}"


def _start_client(config: LogConfig, folder: Path, arguments: Mapping[str, Any], console: str) -> Any:
    wandb = _import()
    where = Path(os.environ.get("WANDB_DIR") or folder)
    arguments = {
        **arguments,
        "project": config.project,
        "entity": config.entity,
        "dir": where,
        "settings": wandb.Settings(console=console, silent=True),
    }
    if config.wandb == "online":
        reason = "no API key found (`wandb login`)"
        try:
            if _has_api_key(wandb.setup().settings):
                return wandb.init(mode="online", resume="allow", **arguments)
        except wandb.Error as error:  # a wrong key or an unreachable server must not stop training
            reason = str(error).partition("\n")[0].rstrip(".")
        say(f"wandb: {reason}, so this run is recorded offline; `wandb sync {where}/wandb/offline-*` uploads it later")
    # images of tables wait here until they are sent, not in the home folder, so that the run folder is whole
    os.environ.setdefault("WANDB_DATA_DIR", str(where.absolute() / "wandb"))
    return wandb.init(mode="offline", **arguments)


def _has_api_key(settings: Any) -> bool:
    """Return whether wandb has credentials: in the environment, its settings or the netrc file.

    wandb's functions for this differ between versions and may ask the server or the user.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    default = next((path for path in ("~/.netrc", "~/_netrc") if Path(path).expanduser().exists()), "~/.netrc")
    try:
        entries = netrc.netrc(Path(os.environ.get("NETRC") or default).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = (urlsplit(settings.base_url).netloc, "api.wandb.ai")  # newer clients also use other names of the public server
    return any(entries.authenticators(host) for host in hosts)
