"""Open a run folder, an exported folder or an `.onnx` file to predict with it."""

import json
from pathlib import Path

import numpy as np
import torch

from hw1.config.recipe import TrainConfig
from hw1.data.augment.eval_resize import EvalRule
from hw1.errors import UserError
from hw1.evaluation.predictor import Checkpoint, load_predictor
from hw1.evaluation.temperature import FittedTemperature, check_temperature, load_temperature
from hw1.models.preprocess import WithPreprocess
from hw1.predict.classifier import ONNX_MISSING, Classifier, class_names, logits_function, read_class_descriptions
from hw1.predict.exported import FOREIGN, check_descriptions, check_names, load_export, parse_rule, read_export_config
from hw1.runs.folder import RunFolder
from hw1.runtime.device import amp_dtype, autocast_of, pick_device
from hw1.utils.text import one_line


def open_classifier(path: Path, checkpoint: Checkpoint | None, train: TrainConfig) -> Classifier:
    """Open a model.

    Args:
        path: A run folder, a folder that `hw1.export` wrote, or an `.onnx` file.
        checkpoint: Weights of a run folder; None for the best, and for anything else.
        train: Says on which device to compute.

    Raises:
        UserError: The path is none of the three, or damaged, or `checkpoint` is given for something that is no run folder.
    """
    if path.suffix == ".onnx" or (path / "config.json").is_file():
        if checkpoint is not None:
            raise UserError(f"--checkpoint: {path} holds one set of weights; only a run folder has several")
        classifier = _open_onnx(path, train) if path.suffix == ".onnx" else _open_export(path, train)
        _try(path, classifier)
        return classifier
    return _open_run(RunFolder.existing(path), checkpoint or "best", train)


def _open_run(run: RunFolder, checkpoint: Checkpoint, train: TrainConfig) -> Classifier:
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
    )


def _open_export(folder: Path, train: TrainConfig) -> Classifier:
    config = read_export_config(folder / "config.json")
    model = load_export(folder, config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    train = TrainConfig(device=train.device, amp=config.amp)
    device = pick_device(train)
    channels = config.model.in_chans
    with_preprocess = WithPreprocess(model, config.aug.mean[:channels], config.aug.std[:channels])
    logits = logits_function(with_preprocess, device, autocast_of(device, amp_dtype(train, device)))
    return Classifier(config.names, config.descriptions, EvalRule.of(config.aug), logits, config.fitted)


def _open_onnx(path: Path, train: TrainConfig) -> Classifier:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: onnxruntime {ONNX_MISSING}") from None
    providers_of = {"cuda": ["CUDAExecutionProvider"], "cpu": ["CPUExecutionProvider"]}
    providers = providers_of.get(train.device, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    providers = [name for name in providers if name in onnxruntime.get_available_providers()]
    if not providers:
        raise UserError(f"--device {train.device}: this onnxruntime computes on {', '.join(onnxruntime.get_available_providers())} only")
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
        meta = session.get_modelmeta().custom_metadata_map
        names, descriptions = check_names(json.loads(meta["class_names"])), check_descriptions(json.loads(meta["class_descriptions"]))
        fitted = FittedTemperature(check_temperature(float(meta["temperature"]))) if "temperature" in meta else None
        [image] = session.get_inputs()
        rule = parse_rule(json.loads(meta["resize"]) if "resize" in meta else {"size": image.shape[1]})  # files of before are squashed
        if rule.size != image.shape[1]:
            raise ValueError(f"resize to {rule.size}, but images of {image.shape[1]}")
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: {FOREIGN} ({one_line(error)})") from None
    return Classifier(names, descriptions, rule, lambda images: session.run(["logits"], {image.name: images})[0], fitted)


def _try(path: Path, classifier: Classifier) -> None:
    """Raise `UserError` unless the model of a file of unknown origin answers for an image with a finite number for each class."""
    try:
        size = classifier.rule.size
        logits = classifier.logits(np.zeros((1, size, size, 3), np.uint8))
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: its model fails ({one_line(error)})") from None
    if logits.shape != (1, len(classifier.class_names)):
        raise UserError(f"{path}: {FOREIGN} ({logits.shape[-1]} outputs, but {len(classifier.class_names)} class names)")
    if not np.isfinite(logits).all():
        raise UserError(f"{path}: the model's answer is not a finite number")
