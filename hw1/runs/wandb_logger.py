"""Send the metrics of runs and the tables of reports to Weights & Biases."""

import netrc
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from hw1.config.recipe import LogConfig, Recipe
from hw1.errors import UserError
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.runs.folder import RunFolder
from hw1.utils.console import say

VARIABLES = {"WANDB_PROJECT": "project", "WANDB_ENTITY": "entity", "WANDB_RUN_GROUP": "group", "WANDB_TAGS": "tags"}
"""wandb's own variables, and the keys of `log:` that they stand for."""


def with_environment(config: LogConfig, typed: Collection[str], environment: Mapping[str, str]) -> tuple[LogConfig, list[str]]:
    """Apply wandb's standard variables to the recipe's `log:`.

    What was typed on the command line comes first, then the environment, then the recipe's files. The environment never switches on what
    `log.wandb: off` says; WANDB_MODE=offline or disabled wins over `online`, whoever asked for that.

    Args:
        config: The recipe's section.
        typed: Dotted keys that were typed on the command line.
        environment: The process' variables.

    Returns:
        The section to use, and which variables took effect.

    Raises:
        UserError: A variable has a value that wandb refuses.
    """
    if config.wandb == "off":
        return config, []
    changes: dict[str, Any] = {}
    used = []
    mode = environment.get("WANDB_MODE", "")
    wanted = {"offline": "offline", "dryrun": "offline", "disabled": "off"}.get(mode, config.wandb)
    if wanted != config.wandb:
        changes["wandb"] = wanted
        used.append(f"WANDB_MODE={mode}")
    for variable, key in VARIABLES.items():
        if (value := environment.get(variable)) and f"log.{key}" not in typed:
            changes[key] = [tag.strip() for tag in value.split(",") if tag.strip()] if key == "tags" else value
            used.append(f"{variable}={value}")
    try:
        return LogConfig.model_validate({**config.model_dump(), **changes}), used
    except ValidationError as error:
        problems = [f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False)]
        raise UserError(*(f"environment: WANDB_*: log.{problem}" for problem in problems)) from None


class WandbRun:
    """A run of the wandb client; the x-axis of every curve is `epoch`.

    When a run is continued, every epoch is logged again: wandb holds the last ones in memory, and the process may have been killed. Online,
    epochs that the server has are skipped; offline they are written again, with the same numbers at the same steps.
    """

    def __init__(self, recipe: Recipe, run: RunFolder, run_id: str | None) -> None:
        """Start the client.

        `log.wandb: online` becomes `offline`, with a line that says so, without an API key or if the server cannot be used.

        Args:
            recipe: Recipe of the run.
            run: Its folder.
            run_id: wandb's id of the run to continue, None for a new one.
        """
        import wandb  # only when it is used: the import takes a second, and wandb may not be installed

        self._wandb = wandb
        self._run = _start_client(
            recipe.log,
            run.path,
            {
                "group": recipe.log.group or recipe.run.name,
                "tags": list(recipe.log.tags),
                "name": os.environ.get("WANDB_NAME") or f"{recipe.run.name}-seed{recipe.seed}",
                "id": run_id,
                "config": recipe.model_dump(mode="json"),
            },
        )
        self._last_epoch = 0 if self._run.offline else max(self._run.step - 1, 0) // 2  # `step` is wandb's next step; see `log`
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    @property
    def id(self) -> str:
        """Id of the run on the server."""
        return str(self._run.id)

    def log(self, row: EpochMetrics) -> None:
        """Send the metrics of an epoch unless they were sent before."""
        if row["epoch"] > self._last_epoch:
            self._run.log(row, step=2 * row["epoch"], commit=True)  # odd steps are for images; wandb drops repeated steps
            self._last_epoch = row["epoch"]

    def finish(self, summary: Mapping[str, Any], figures: Mapping[str, Path]) -> None:
        """Send the figures that exist and the summary, and end the client."""
        images = {name: self._wandb.Image(str(path)) for name, path in figures.items() if path.is_file()}
        if images:
            self._run.log(images, step=2 * self._last_epoch + 1, commit=True)
        self._run.summary.update(dict(summary))
        self._run.finish()

    def stop(self) -> None:
        """End the client; wandb shows the run as failed."""
        self._run.finish(exit_code=1)


def log_report(config: LogConfig, folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], images: Mapping[str, Path]) -> None:
    """Send a report as a run.

    Args:
        config: Project, entity, group and mode of the run.
        folder: Where wandb writes its files.
        tables: Rows of numbers and text with the same keys; None is an empty cell.
        images: Files by name.
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
        except wandb.Error as error:  # a wrong key or an unreachable server must not stop training
            reason = str(error).partition("\n")[0].rstrip(".")
        say(f"wandb: {reason}, so this run is recorded offline; `wandb sync {folder}/wandb/offline-*` uploads it later")
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
