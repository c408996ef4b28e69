"""The programs that are compared: their command lines, and what they have predicted."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw1.runs.folder import RunFolder

Predictions = dict[str, str]
"""Name of each file -> name of its likeliest class."""
TIMM_FLAGS = {
    "timm, --channels-last --amp, 2 workers": ["--channels-last", "--amp", "--amp-dtype", "bfloat16", "--workers", "2"],
    "timm, --channels-last --amp, 1 worker": ["--channels-last", "--amp", "--amp-dtype", "bfloat16", "--workers", "1"],
    "timm, --channels-last, 2 workers": ["--channels-last", "--workers", "2"],
}


@dataclass(frozen=True)
class Model:
    """A run that was exported, with `--onnx`."""

    run: RunFolder

    @property
    def export(self) -> Path:
        """The folder that `hw1 export` wrote."""
        return self.run.path / "export"

    @property
    def config(self) -> dict[str, Any]:
        """Its `config.json`."""
        config: dict[str, Any] = json.loads((self.export / "config.json").read_bytes())
        return config


@dataclass(frozen=True)
class Program:
    """A way to predict a folder.

    Attributes:
        command: Makes the command line, of the folder of images and a folder for the result.
        read: Reads what it wrote into that folder.
        folder: Where it runs; None for the checkout of hw1.
    """

    command: Callable[[Path, Path], list[str]]
    read: Callable[[Path], Predictions]
    folder: Path | None = None


def programs(model: Model, timm: Path | None) -> dict[str, Program]:
    """Return all programs by name, ours first; timm's where there is a checkout of it."""
    onnx = model.export / "model.onnx"
    found = {
        "hw1 predict RUN": _ours(model.run.path, ["--device", "cpu"]),
        "hw1 predict model.onnx": _ours(onnx, []),
        "onnxruntime loop, image by image": _onnx_loop(onnx, 1, model),
        "onnxruntime loop, 64 images": _onnx_loop(onnx, 64, model),
    }
    return found | ({name: _timm(model, timm, flags) for name, flags in TIMM_FLAGS.items()} if timm else {})


def _ours(path: Path, options: list[str]) -> Program:
    def command(images: Path, out: Path) -> list[str]:
        return [sys.executable, "-m", "hw1", "predict", str(path), str(images), "--out", str(out / "out.csv"), *options]

    return Program(command, lambda out: {Path(row["file"]).name: row["class_1"] for row in _rows(out / "out.csv")})


def _onnx_loop(onnx: Path, batch_size: int, model: Model) -> Program:
    def command(images: Path, out: Path) -> list[str]:
        arguments = [onnx, images, out / "out.csv", batch_size, model.config["pretrained_cfg"]["interpolation"]]
        return [sys.executable, "-m", "benchmarks.prediction.onnx_loop", *map(str, arguments)]

    return Program(command, lambda out: _by_index(out, "file", model))


def _timm(model: Model, checkout: Path, flags: list[str]) -> Program:
    """timm's inference.py with the same weights and the same preprocessing, as `hw1 export` states them."""
    data, size = model.config["pretrained_cfg"], model.config["pretrained_cfg"]["input_size"]
    fixed = {
        "--model": model.config["architecture"],
        "--checkpoint": model.export / "model.safetensors",
        "--num-classes": model.config["num_classes"],
        "--interpolation": data["interpolation"],
        "--crop-mode": data["crop_mode"],
        "--crop-pct": data["crop_pct"],
        "--device": "cpu",
        "--batch-size": 64,
        "--label-type": "none",
        "--results-file": "out.csv",
    }
    options = [str(word) for pair in fixed.items() for word in pair]
    options += ["--input-size", *map(str, size), "--mean", *map(str, data["mean"]), "--std", *map(str, data["std"])]
    options += ["--include-index", "--fullname", "--no-console-results"]

    def command(images: Path, out: Path) -> list[str]:
        return [sys.executable, "inference.py", "--data-dir", str(images), *options, *flags, "--results-dir", str(out)]

    return Program(command, lambda out: _by_index(out, "filename", model), checkout)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _by_index(out: Path, name: str, model: Model) -> Predictions:
    labels = model.config["label_names"]
    return {Path(row[name]).name: labels[int(row["index"])] for row in _rows(out / "out.csv")}
