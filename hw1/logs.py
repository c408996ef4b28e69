"""Where the numbers of a run go: console, `metrics.jsonl` and `.csv`, wandb."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw1.config import Recipe
from hw1.runs import RunFolder

Row = dict[str, Any]


def say(text: str) -> None:
    """One line for the user, on stderr beside the progress bars."""
    print(text, file=sys.stderr, flush=True)


def format_row(row: Row, epochs: int) -> str:
    """One epoch as one line."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  train loss {row['train_loss']:.4f} acc {row['train_acc']:.4f}"
        f"  val loss {row['val_loss']:.4f} top1 {row['val_top1']:.4f} top5 {row['val_top5']:.4f}"
        f"  lr {row['lr']:.2e}  {row['images_per_second']:.0f} img/s  {row['seconds']:.0f} s"
    )


class WandbRun:
    """A run of the real wandb client; the same id continues it. `epoch` is the x-axis of every curve."""

    def __init__(self, recipe: Recipe, run: RunFolder, run_id: str | None, last_epoch: int) -> None:
        import wandb  # only when it is on: the import takes a second, and the user may not want it at all

        mode = recipe.log.wandb
        if mode == "online" and not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
            say("wandb: no API key found (`wandb login`), so this run is recorded offline; `wandb sync` uploads it later")
            mode = "offline"
        self._wandb = wandb
        self._run = wandb.init(
            project=recipe.log.project,
            entity=recipe.log.entity,
            group=recipe.log.group or recipe.run.name,
            tags=list(recipe.log.tags),
            name=f"{recipe.run.name}-seed{recipe.seed}",
            id=run_id or wandb.util.generate_id(),
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=run.path,
            config=recipe.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        self._last_epoch = last_epoch

    @property
    def id(self) -> str:
        return str(self._run.id)

    def log(self, row: Row) -> None:
        if row["epoch"] > self._last_epoch:  # an epoch that was repeated after an interruption is there already
            self._run.log(row)
            self._last_epoch = row["epoch"]

    def finish(self, summary: Mapping[str, Any], pictures: Mapping[str, Path]) -> None:
        self._run.log({name: self._wandb.Image(str(path)) for name, path in pictures.items() if path.is_file()})
        self._run.summary.update(dict(summary))
        self._run.finish()

    def stop(self) -> None:
        """Ends the client without calling the run finished."""
        self._run.finish(exit_code=1)
