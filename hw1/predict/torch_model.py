"""Open a run folder or an exported folder as a classifier that computes with torch."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.config.recipe import TrainConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.evaluation.predictor import Checkpoint, load_predictor
from hw1.evaluation.temperature import load_temperature
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.models.preprocess import WithPreprocess
from hw1.predict.classifier import Classifier, LogitsFunction, class_names, read_class_descriptions
from hw1.predict.exported import load_export, read_export_config
from hw1.runs.folder import RunFolder
from hw1.runtime.device import Autocast, amp_dtype, autocast_of, pick_device


def open_run(run: RunFolder, checkpoint: Checkpoint, train: TrainConfig) -> Classifier:
    """Open a run folder with the weights of a checkpoint; see `open_classifier`."""
    predictor = load_predictor(run, run.read_recipe([f"train.device={train.device}"]), checkpoint)
    recipe, device = predictor.recipe, predictor.device
    model = predictor.with_preprocess()
    names = class_names(predictor)
    return Classifier(
        names,
        read_class_descriptions(recipe.data.root, names),
        EvalRule.of(recipe.aug),
        logits_function(model, device, autocast_of(device, amp_dtype(recipe.train, device))),
        load_temperature(run, predictor.facts),
        recipe.data.eval_batch_size,
        model,
    )


def open_export(folder: Path, train: TrainConfig) -> Classifier:
    """Open a folder that `hw1 export` wrote; see `open_classifier`."""
    config = read_export_config(folder / "config.json")
    model = load_export(folder, config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    train = TrainConfig(device=train.device, amp=config.amp)
    device = pick_device(train)
    channels = config.model.in_chans
    with_preprocess = WithPreprocess(model, config.aug.mean[:channels], config.aug.std[:channels])
    logits = logits_function(with_preprocess, device, autocast_of(device, amp_dtype(train, device)))
    return Classifier(config.names, config.descriptions, EvalRule.of(config.aug), logits, config.fitted, model=with_preprocess)


def logits_function(model: nn.Module, device: torch.device, autocast: Autocast = nullcontext) -> LogitsFunction:
    """Return a model as a function of arrays: on the device, in eval mode, with BatchNorm folded.

    Args:
        model: Maps images uint8 [B, S, S, 3] to logits [B, C].
        device: Where it computes; the model is moved there.
        autocast: Makes the context in which it computes.
    """
    model = fuse_batchnorm(model.to(device))

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast():
            output: Tensor = model(torch.from_numpy(images).to(device))
            return np.asarray(output.float().cpu().numpy())

    return logits
