"""The run folder: where each file of a run is, what state the run is in, who may write it. No torch."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hw1.config import Recipe
from hw1.errors import UserError
from hw1.files import write_atomic
from hw1.recipe import differences, dump_recipe, load_recipe

Status = Literal["new", "interrupted", "finished"]


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, `<run.dir>/<run.name>/seed<seed>/`; makes nothing by itself."""

    path: Path

    @classmethod
    def of(cls, recipe: Recipe) -> "RunFolder":
        return cls(Path(recipe.run.dir) / str(recipe.run.name) / f"seed{recipe.seed}")

    @classmethod
    def existing(cls, path: str | Path) -> "RunFolder":
        """The run in `path`; `UserError` if there is none."""
        run = cls(Path(path))
        if not run.config.is_file():
            inner = sorted(p.parent for p in run.path.glob("**/config.yaml"))
            raise UserError(f"{path}: no run folder (it has no config.yaml)" + (f"; did you mean {inner[0]}?" if inner else ""))
        return run

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics_jsonl(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def metrics_csv(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """Written when the run has finished, and only then."""
        return self.path / "summary.json"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def samples(self) -> Path:
        return self.path / "samples.png"

    @property
    def val_predictions(self) -> Path:
        """Logits of the last validated epoch."""
        return self.path / "val_predictions.npz"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.safetensors"

    def eval_dir(self, split: str) -> Path:
        return self.path / "eval" / split

    def read_recipe(self) -> Recipe:
        return load_recipe(self.config)

    def read_metrics(self) -> list[dict[str, Any]]:
        """One record per finished epoch, in order."""
        if not self.metrics_jsonl.is_file():
            return []
        return [json.loads(line) for line in self.metrics_jsonl.read_text().splitlines()]

    def write_metrics(self, rows: Sequence[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl` and `metrics.csv` whole, so that neither ever holds half a row or one twice."""
        write_atomic(self.metrics_jsonl, "".join(json.dumps(row) + "\n" for row in rows).encode())
        names = list(rows[0]) if rows else []
        lines = [",".join(names), *(",".join(repr(row[name]) for name in names) for row in rows)]
        write_atomic(self.metrics_csv, ("\n".join(lines) + "\n").encode())

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process; the lock dies with it. `UserError` if another process has it."""
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.path}: another process is training this run") from None
            yield


def find_status(run: RunFolder, recipe: Recipe, *, overwrite: bool = False) -> Status:
    """Compares the run folder with the recipe; reads only. With `overwrite` a run in it counts as not there.

    Raises `UserError` if the folder holds another recipe's run (naming each key that differs and may not) or no run at all.
    """
    if not run.path.exists() or not any(p.name != ".lock" for p in run.path.iterdir()):
        return "new"
    if not run.config.is_file():
        raise UserError(f"{run.path}: exists, but is no run folder; choose another with run.name=NAME or run.dir=FOLDER")
    if overwrite:
        return "new"
    refused, _ = differences(run.read_recipe(), recipe)
    if refused:
        raise UserError(
            *(f"{run.path}: made with another recipe: {line}" for line in refused),
            f"{run.path}: run.name=NAME starts another run, --overwrite starts this one over",
        )
    if run.summary.is_file():
        summary = json.loads(run.summary.read_text())
        if summary["stopped_early"] or summary["epochs"] >= recipe.train.epochs:
            return "finished"
    return "interrupted" if run.last.is_file() else "new"


def start_folder(run: RunFolder, recipe: Recipe, *, fresh: bool) -> None:
    """Makes the folder and states the recipe in it; `fresh` first empties it of an earlier run (the lock stays)."""
    if fresh:
        for item in run.path.iterdir():
            if item.name != ".lock":
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    run.last.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(run.config, dump_recipe(recipe).encode())
    if run.summary.is_file():  # more epochs were asked for: it is not finished any more
        run.summary.unlink()
