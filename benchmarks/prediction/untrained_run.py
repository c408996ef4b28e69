"""A run of an untrained model, exported to ONNX: for a benchmark that is given no trained one."""

import contextlib
import io
from pathlib import Path

from hw1.config.load import load_recipe
from hw1.export.__main__ import main as export
from hw1.models.factory import build_model
from hw1.models.resolve import resolve
from hw1.runs.checkpoint import save_weights
from hw1.runs.folder import RunFolder
from hw1.runs.status import start_folder


def make_untrained_run(folder: Path, model: str = "resnet18", size: int = 96) -> RunFolder:
    """Make a run of an untrained model for 100 classes in `folder`, and export it to ONNX."""
    recipe = load_recipe("base", [f"run.dir={folder}", f"model.name={model}", "model.pretrained=false", f"aug.size={size}"])
    recipe, _ = resolve(recipe)
    run = RunFolder.of(recipe)
    start_folder(run, recipe, fresh=True)
    network = build_model(recipe.model, 100, load_weights=False)
    meta = {"classes": list(map(str, range(100))), "epoch": 1, "val_top1": 0.01, "val_loss": 4.6}
    save_weights(run.best, network.state_dict(), meta)
    with contextlib.redirect_stdout(io.StringIO()):
        export([str(run.path), "--onnx"])
    return run
