"""Run folders with a small untrained model, as a finished run leaves them, for the tests of what uses one."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.run_folders import BASE
from hw1.config.load import load_recipe
from hw1.data.synthetic import draw_image
from hw1.errors import run_command
from hw1.models.factory import build_model
from hw1.runs.checkpoint import save_weights
from hw1.runs.folder import RunFolder
from hw1.runs.identity import identify
from hw1.runs.status import start_folder

SIZE = 40
FINGERPRINT = "0123456789abcdef0123"
MODEL = (
    f"aug.size={SIZE}",
    "aug.crop_pct=1.0",
    "aug.interpolation=bilinear",
    "aug.mean=[0.5, 0.4, 0.3]",
    "aug.std=[0.2, 0.25, 0.3]",
    "model.name=resnet18_half_cbam",
    "model.pretrained=false",
    "model.cbam_init=identity",
    "model.cbam_reduction=8",
    "data.eval_batch_size=7",
    "train.device=cpu",
    "train.amp=off",
)


def make_run(folder: Path, data: Path | None, names: Sequence[str], *overrides: str, epoch: int = 3) -> RunFolder:
    """A run whose weights are drawn so that images come out in different classes, BatchNorm's statistics and CBAM's gates included."""
    where = [] if data is None else [f"data.root={data}"]
    recipe = load_recipe(BASE, ["run.name=small", f"run.dir={folder}", *where, *MODEL, *overrides])
    run = RunFolder.of(recipe)
    start_folder(run, recipe, fresh=True)
    torch.manual_seed(0)
    model = build_model(recipe.model, len(names), load_weights=False)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
        model.layer4.cbam.channel.fc2.weight.normal_()
        model.get_classifier().weight.normal_(std=1.0)
        rng = np.random.default_rng(0)
        images = np.stack([draw_image(label, SIZE, rng)[:, :, ::-1] for label in range(32)]).transpose(0, 3, 1, 2)
        mean, std = np.reshape(recipe.aug.mean, (3, 1, 1)), np.reshape(recipe.aug.std, (3, 1, 1))
        normalised = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32))
        model.get_classifier().bias.copy_(-model.eval()(normalised).mean(0))
    meta = {"classes": list(names), "epoch": epoch, "val_top1": 0.5, "val_loss": 2.0, "identity": identify(recipe, FINGERPRINT)}
    save_weights(run.best, model.state_dict(), meta)
    row = {"epoch": epoch, "val_loss": 2.0, "val_top1": 0.5, "val_top5": 0.75, "lr": 1e-3, "seconds": 1.0}
    run.write_metrics([row])
    git = {"commit": "0123abc", "modified": True}
    run.write_json(run.env, {"fingerprint": FINGERPRINT, "num_train": 20, "num_val": 10, "git": git, "packages": {"torch": "2.0"}})
    run.write_json(run.summary, {"epochs": epoch, "stopped_early": False})
    return run


def calibrate(run: RunFolder, temperature: float, **facts: object) -> None:
    """As `validate.py` leaves the temperature that it fitted."""
    run.eval_dir("val").mkdir(parents=True, exist_ok=True)
    before, after = {"nll": 1.0, "brier": 0.5}, {"nll": 0.9, "brier": 0.4}
    content = {"checkpoint": "best", "epoch": 3, "step": 0, "num_images": 1000, "before": before, "after": after, **facts}
    content["temperature"] = temperature
    run.write_json(run.eval_dir("val") / "calibration.json", content)


def call(main: Callable[[Sequence[str]], int | None], *arguments: object) -> subprocess.CompletedProcess[str]:
    """What the command `main` does with these arguments, in this process."""
    argv = [str(argument) for argument in arguments]
    with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = run_command(main, argv)
    return subprocess.CompletedProcess(argv, code, stdout.getvalue(), stderr.getvalue())


def give_stdin(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def saved_logits(run: RunFolder, split: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """(logits by file, class names) of what `validate.py` saved."""
    with np.load(run.eval_dir(split) / "predictions.npz", allow_pickle=False) as saved:
        return dict(zip(saved["files"].tolist(), saved["logits"], strict=True)), saved["class_names"].tolist()


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    return exponents / exponents.sum()


def read_json(path: Path) -> object:
    return json.loads(path.read_text())
