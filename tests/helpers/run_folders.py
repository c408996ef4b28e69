"""Run folders as the trainer leaves them, for the tests of runs."""

from pathlib import Path

from helpers.paths import ROOT
from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.runs.folder import RunFolder
from hw1.runs.status import start_folder

BASE = str(ROOT / "recipes/base.yaml")


CLOSED = (
    "aug.size=224", "aug.crop_pct=1.0", "aug.interpolation=bilinear", "aug.mean=[0.485, 0.456, 0.406]", "aug.std=[0.229, 0.224, 0.225]",
)  # fmt: skip
"""What training puts in the place of auto."""


def changed(*overrides: str) -> Recipe:
    return load_recipe(BASE, ["run.name=a", "train.epochs=3", *CLOSED, *overrides])


def started(recipe: Recipe, *, last: bool = False, epochs: int | None = None, stopped_early: bool = False) -> RunFolder:
    """A run folder as the trainer leaves it: at the start, interrupted after a checkpoint, or finished."""
    run = RunFolder.of(recipe)
    start_folder(run, recipe, fresh=True)
    if last or epochs:
        run.state_file(0, 1).write_bytes(b"state")
    if epochs:
        run.best.write_bytes(b"weights")
        run.write_json(run.summary, {"epochs": epochs, "stopped_early": stopped_early})
    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
