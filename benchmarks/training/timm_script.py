"""timm's own train.py, from a checkout outside of this project, on our registered model and the same files: in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.case import Case
from benchmarks.training.epochs import Files
from benchmarks.training.ours import recipe_of
from benchmarks.training.peers import TIMM
from hw1.errors import RunError, UserError
from hw1.runtime.device import amp_dtype

EPOCHS = 2
"""The first one warms up (starts processes, compiles, fills caches); the rate is that of the last."""
PROJECT = Path(__file__).parents[2]
LINE = re.compile(r"Train: (\d+) \[.*\(([\d.]+)s, +([\d.]+)/s\)")
"""The epoch, and the mean over it so far: seconds a step, and images/s."""


def find_script(checkout: Path) -> Path:
    """`checkout` is the repository's folder or train.py itself. Raises UserError where there is none."""
    script = checkout / "train.py" if checkout.is_dir() else checkout
    if not script.is_file() or "--device-modules" not in script.read_text():
        raise UserError(f"--timm: {checkout}: no checkout of timm whose train.py knows --device-modules (timm 1.0.12 or newer)")
    return script.resolve()


def arguments(case: Case, files: Files, device: torch.device, flags: str, output: Path) -> list[str]:
    """The command line of train.py that says what the recipe says, but for freezing and rotation, which it lacks; `flags` of TIMM."""
    recipe = recipe_of(case, "faithful/nhwc")
    aug, optim, chosen = recipe.aug, recipe.optim, TIMM[flags]
    words: list[Any] = ["--data-dir", files.root, "--train-split", "train", "--val-split", "val", "--output", output]
    words += ["--device-modules", "hw1.models", "--device", device.type, "--workers", files.workers, "--epochs", EPOCHS]
    words += ["--model", case.model, "--num-classes", case.num_classes, "--img-size", aug.size, "--batch-size", case.batch]
    words += ["--drop", recipe.model.drop_rate, "--model-kwargs", f"drop_layer3={recipe.model.drop_layer3}"]
    words += ["--opt", "adamw", "--lr", optim.lr, "--weight-decay", optim.weight_decay, "--opt-betas", *optim.betas]
    words += ["--opt-kwargs", "fused=True", "--warmup-epochs", 0, "--mixup", recipe.mixup.alpha, "--mixup-prob", recipe.mixup.prob]
    words += ["--smoothing", 0, "--scale", *aug.scale, "--ratio", *aug.ratio, "--hflip", aug.hflip, "--color-jitter", aug.brightness]
    words += ["--train-interpolation", "bilinear", "--mean", *aug.mean, "--std", *aug.std, "--log-interval", 1, "--checkpoint-hist", 1]
    words += ["--channels-last"] * chosen.channels_last
    if amp_dtype(recipe.train, device) is torch.bfloat16:
        words += ["--amp", "--amp-dtype", "bfloat16"]
    if chosen.compile_mode:
        words += ["--torchcompile"] + (["--torchcompile-mode", chosen.compile_mode] if chosen.compile_mode != "default" else [])
    if device.type == "cuda":
        words.append("--pin-mem")
    return [str(word) for word in words]


def run_script(script: Path, words: Sequence[str], folder: Path) -> float:
    """Images/s of its last epoch, as it prints them. Raises RunError with its last words where it fails or prints none."""
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, str(script), *words], cwd=folder, env=env, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        raise RunError(f"--timm: {script.name} failed: {' | '.join(text.strip().splitlines()[-3:])}")
    return parse_rate(text)


def parse_rate(text: str) -> float:
    """Images/s that train.py printed last. Raises RunError where it printed none."""
    found = LINE.findall(text)
    if not found:
        raise RunError("--timm: train.py printed no rate")
    return float(found[-1][2])


def version_of(script: Path) -> str | None:
    """timm's version in the checkout, None where train.py stands alone (it then runs with the installed timm)."""
    file = script.parent / "timm" / "version.py"
    found = re.search(r"__version__ = '([^']+)'", file.read_text()) if file.is_file() else None
    return found[1] if found else None
