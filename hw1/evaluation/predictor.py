"""Rebuild the model of a finished or interrupted run from its folder alone, and predict with it."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hw1.config.recipe import Recipe
from hw1.data.image_set import ClassMap, ImageSet
from hw1.errors import UserError
from hw1.evaluation.ensemble import TestTimeAugmentation, Tta
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.predictions import Predictions
from hw1.models.factory import build_model
from hw1.models.preprocess import WithPreprocess
from hw1.runs.checkpoint import load_newest, load_weights
from hw1.runs.folder import RunFolder
from hw1.runs.identity import require_identity
from hw1.runtime.cpu import limit_threads
from hw1.runtime.device import amp_dtype, autocast_of, keep_freed_memory, pick_device
from hw1.utils.console import say

Checkpoint = Literal["best", "last", "ema"]
NOT_YET = "the run has not finished an epoch or saved its state yet"


@dataclass(frozen=True)
class Predictor:
    """A trained model with the classes and the preprocessing that it was trained with.

    Attributes:
        recipe: The run's recipe, with the preprocessing.
        model: The model, on `device`.
        classes: Its classes.
        device: Where it computes.
        facts: Which checkpoint it is, and its epoch (and step): what metrics and model cards say of the weights.
        stated: What the file of the weights says of its validation: `accuracy` (0-1) and `nll` in nats; empty where it says nothing.
    """

    recipe: Recipe
    model: nn.Module
    classes: ClassMap
    device: torch.device
    facts: dict[str, Any]
    stated: Mapping[str, float] = field(default_factory=dict)

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
        from hw1.data.loader.loader import build_eval_loader  # of no use to the prediction of a few files, which loads them itself

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
        UserError: The checkpoint is missing, damaged, of another run, or does not fit the recipe.
    """
    limit_threads()  # the same arithmetic as in training
    keep_freed_memory()
    device = pick_device(recipe.train)
    saved = _load_best(run) if checkpoint == "best" else _load_state(run, checkpoint)
    require_identity(saved.path, saved.identity, recipe, _read_fingerprint(run))
    model = build_model(recipe.model, len(saved.classes), load_weights=False, image_size=recipe.aug.size)
    try:
        model.load_state_dict(saved.weights)
    except RuntimeError as error:
        what = f"does not fit {recipe.model.name} of the run's recipe: {str(error).splitlines()[-1].strip()}"
        raise UserError(f"{saved.path}: {what}") from None
    memory_format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory_format)
    return Predictor(recipe, model, ClassMap(tuple(saved.classes)), device, {"checkpoint": checkpoint, **saved.facts}, saved.stated)


class _Saved(NamedTuple):
    """What a file of weights holds; see `Predictor` for `facts` and `stated`."""

    path: Path
    weights: dict[str, Tensor]
    classes: Sequence[str]
    identity: dict[str, str] | None
    facts: dict[str, int]
    stated: dict[str, float]


def _load_best(run: RunFolder) -> _Saved:
    if not run.best.is_file():
        raise UserError(f"{run.best}: no such checkpoint; {NOT_YET}")
    try:
        weights, meta = load_weights(run.best)
    except UserError as error:
        raise UserError(f"{error}; --checkpoint last evaluates the last state instead") from None
    stated = {"accuracy": meta["val_top1"], "nll": meta["val_loss"]}
    return _Saved(run.best, weights, meta["classes"], meta.get("identity"), {"epoch": meta["epoch"]}, stated)


def _load_state(run: RunFolder, checkpoint: Checkpoint) -> _Saved:
    files = run.state_files()
    if not files:
        raise UserError(f"{run.checkpoints}: no such checkpoint; {NOT_YET}")
    state, damaged = load_newest(files)
    path = files[len(damaged)]
    for problem in damaged:
        say(f"{problem}; {path.name} is used instead")
    weights = state["model" if checkpoint == "last" else "ema"]
    if weights is None:
        raise UserError(f"{path}: holds no averaged weights; the run was trained with train.ema_decay=null")
    facts = {"epoch": state["progress"]["epoch"], "step": state["progress"]["step"]}
    return _Saved(path, weights, state["classes"], state.get("identity"), facts, {})


def _read_fingerprint(run: RunFolder) -> str | None:
    """Return the digest of the run's data; None where `env.json` does not say it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(run.env.read_bytes())["fingerprint"])
    return None
