"""Save a model in timm's folder format: `timm.create_model("local-dir:PATH", pretrained=True)` opens it after `import hw1.models`."""

from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf

from hw1 import __version__
from hw1.data.augment.eval_resize import CROP_MODES
from hw1.evaluation.predictor import Predictor
from hw1.predict.classifier import class_names

# What timm states about the published weights of a model of this name; it does not hold for these weights.
ORIGIN_KEYS = ("tag", "license", "origin_url", "description", "paper_name", "paper_ids", "notes")


def save_timm_folder(predictor: Predictor, descriptions: dict[str, str], temperature: float | None, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`; the predictor's model is moved to the CPU, in NCHW memory order.

    `config.json` holds the class names (`label_names`, by output; `label_descriptions`), the model's arguments, those of CBAM included,
    and in `pretrained_cfg` the preprocessing, from which timm builds the same resize as validation. Its key `hw1` holds what timm has no
    key for: the checkpoint, the fitted temperature or null, and the precision to compute in (`train.amp`).

    Args:
        predictor: The model.
        descriptions: What people call the classes, by their names.
        temperature: The fitted temperature; None if there is none to offer.
        folder: Where to write.
    """
    aug = predictor.recipe.aug
    amp = predictor.recipe.train.amp
    if amp == "fp16":  # no CPU computes in it
        amp = "auto"
    predictor.model.cpu().to(memory_format=torch.contiguous_format)
    config: dict[str, Any] = {
        "label_names": class_names(predictor),
        "label_descriptions": descriptions,
        "pretrained_cfg": dict.fromkeys(ORIGIN_KEYS),
        "hw1": {"version": __version__, **predictor.facts, "temperature": temperature, "amp": amp},
    }
    channels = predictor.recipe.model.in_chans
    data = {
        "input_size": (channels, aug.size, aug.size),
        "interpolation": aug.interpolation,
        "crop_mode": CROP_MODES[aug.fit],
        "crop_pct": aug.crop_pct,
        "mean": aug.mean[:channels],
        "std": aug.std[:channels],
    }
    save_for_hf(predictor.model, str(folder), model_config=config, safe_serialization=True, data_config=data)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # safetensors makes files that only their owner can read
