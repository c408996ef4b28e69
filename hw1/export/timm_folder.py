"""A model in timm's own folder format: `timm.create_model("local-dir:PATH", pretrained=True)` opens it after `import hw1.models`."""

from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf

from hw1 import __version__
from hw1.evaluation.predictor import Predictor
from hw1.predict.classifier import class_names

# What timm knows of the published weights that a model of this name may start from: it is not true of these weights.
ORIGIN = ("tag", "license", "origin_url", "description", "paper_name", "paper_ids", "notes")


def save_timm_folder(predictor: Predictor, words: dict[str, str], temperature: float | None, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`; the predictor's model comes to the CPU, in NCHW memory order.

    config.json holds the class names (`label_names`, by output; `label_descriptions` where there are words), the model's arguments, CBAM's
    among them, and in `pretrained_cfg` the preprocessing, from which timm builds the same resize as validation. Below `hw1` is what timm
    has no place for: which checkpoint it is, the fitted temperature or null, the
    precision to compute in (`train.amp`).
    """
    aug = predictor.recipe.aug
    amp = predictor.recipe.train.amp
    if amp == "fp16":  # no CPU computes in it
        amp = "auto"
    predictor.model.cpu().to(memory_format=torch.contiguous_format)
    config: dict[str, Any] = {
        "label_names": class_names(predictor),
        "label_descriptions": words,
        "pretrained_cfg": dict.fromkeys(ORIGIN),
        "hw1": {"version": __version__, **predictor.facts, "temperature": temperature, "amp": amp},
    }
    data = {
        "input_size": (3, aug.size, aug.size),
        "interpolation": "bilinear",
        "crop_mode": "squash",  # height and width are resized each by its own factor: nothing is cut off
        "crop_pct": 1.0,
        "mean": aug.mean,
        "std": aug.std,
    }
    save_for_hf(predictor.model, str(folder), model_config=config, safe_serialization=True, data_config=data)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # safetensors writes files for their owner alone
