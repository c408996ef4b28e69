"""Rebuild the model of a finished or interrupted run from its folder alone, and predict with it."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hw1.config.recipe import Recipe
from hw1.data.image_set import ClassMap, ImageSet
from hw1.data.loader.loader import build_eval_loader
from hw1.errors import UserError
from hw1.evaluation.ensemble import TestTimeAugmentation, Tta
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.predictions import Predictions
from hw1.models.factory import build_model
from hw1.models.preprocess import WithPreprocess
from hw1.runs.checkpoint import load_newest, load_weights
from hw1.runs.folder import RunFolder
from hw1.runtime.cpu import limit_threads
from hw1.runtime.device import amp_dtype, autocast_of, keep_freed_memory, pick_device
from hw1.utils.console import say

Checkpoint = Literal["best", "last", "ema"]


@dataclass(frozen=True)
class Predictor:
    """A trained model with the classes and the preprocessing that it was trained with.

    Attributes:
        recipe: The run's recipe, with the preprocessing.
        model: The model, on `device`.
        classes: Its classes.
        device: Where it computes.
        facts: Which checkpoint it is, and its epoch (and step): what metrics and model cards say of the weights.
    """

    recipe: Recipe
    model: nn.Module
    classes: ClassMap
    device: torch.device
    facts: dict[str, Any]

    def with_preprocess(self) -> WithPreprocess:
        """Return the model of images as they are resized (`EvalRule`), which it normalises as in training."""
        aug, channels = self.recipe.aug, self.recipe.model.in_chans
        channels_last = self.recipe.train.channels_last
        return WithPreprocess(self.model, aug.mean[:channels], aug.std[:channels], channels_last=channels_last)

    def predict(self, images: ImageSet, desc: str | None = None, *, tta: Tta | None = None) -> Predictions:
        """Compute the logits of every image, with the same arithmetic as validation during training.

        Args:
            images: The images; the predictions have their order.
            desc: Name of a progress bar; None shows none.
            tta: Test-time augmentation to average over; None for none.

        Raises:
            RunError: There is no image.
        """
        model = TestTimeAugmentation(self.model, tta, self.recipe.aug.size) if tta else self.model
        data = self.recipe.data.model_copy(update={"cache": "none"})  # each file is read once: a cache would not pay off
        aug = self.recipe.aug.model_copy(update={"size": model.input_size}) if isinstance(model, TestTimeAugmentation) else self.recipe.aug
        loader = build_eval_loader(images, self.recipe.model_copy(update={"data": data, "aug": aug}), self.device)
        autocast = autocast_of(self.device, amp_dtype(self.recipe.train, self.device))
        try:
            return evaluate(model, loader, autocast=autocast, desc=desc)
        finally:
            loader.close()


def load_predictor(run: RunFolder, recipe: Recipe, checkpoint: Checkpoint = "best") -> Predictor:
    """Rebuild the model of a run with the weights of a checkpoint.

    Args:
        run: The run's folder.
        recipe: The run's recipe; only keys that may change after training may differ.
        checkpoint: `best` by validation, the `last` state, or the `ema` weights of the last state.

    Raises:
        UserError: The checkpoint is missing, damaged or does not fit the recipe.
    """
    limit_threads()  # the same arithmetic as in training
    keep_freed_memory()
    device = pick_device(recipe.train)
    files = [run.best] if checkpoint == "best" else run.state_files()
    if not any(path.is_file() for path in files):
        missing = run.best if checkpoint == "best" else run.checkpoints
        raise UserError(f"{missing}: no such checkpoint; the run has not finished an epoch or saved its state yet")
    path = files[0]
    if checkpoint == "best":
        try:
            weights, meta = load_weights(path)
        except UserError as error:
            raise UserError(f"{error}; --checkpoint last evaluates the last state instead") from None
        classes, facts = meta["classes"], {"epoch": meta["epoch"]}
    else:
        state, damaged = load_newest(files)
        path = files[len(damaged)]
        for problem in damaged:
            say(f"{problem}; {path.name} is used instead")
        weights, classes = state["model" if checkpoint == "last" else "ema"], state["classes"]
        facts = {"epoch": state["progress"]["epoch"], "step": state["progress"]["step"]}
        if weights is None:
            raise UserError(f"{path}: holds no averaged weights; the run was trained with train.ema_decay=null")
    model = build_model(recipe.model, len(classes), load_weights=False, image_size=recipe.aug.size)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: does not fit {recipe.model.name} of the run's recipe: {str(error).splitlines()[-1].strip()}") from None
    memory_format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory_format)
    return Predictor(recipe, model, ClassMap(tuple(classes)), device, {"checkpoint": checkpoint, **facts})


def load_temperature(run: RunFolder, facts: dict[str, Any]) -> float | None:
    """Read the temperature that an evaluation of the validation split fitted.

    Args:
        run: The run's folder.
        facts: `Predictor.facts` of the weights.

    Returns:
        The temperature; None if none was fitted for these weights.

    Raises:
        UserError: The file is damaged.
    """
    try:
        saved = json.loads(run.calibration.read_bytes())
        is_same = all(saved[key] == facts.get(key, 0) for key in ("checkpoint", "epoch", "step"))
        return float(saved["temperature"]) if is_same else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run.calibration}: damaged; python validate.py {run.path} writes it anew") from None
