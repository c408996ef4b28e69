"""Open a run folder, an exported folder or an `.onnx` file as one function from images to logits, with the names of the classes."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import timm.data.config
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import hw1.models  # noqa: F401 - registers the models that an exported folder may name
from hw1.config.recipe import TrainConfig
from hw1.data.augment.eval_resize import CROP_MODES, EvalRule
from hw1.errors import UserError
from hw1.evaluation.predictor import Checkpoint, Predictor, load_predictor, load_temperature
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.models.preprocess import WithPreprocess
from hw1.runs.folder import RunFolder
from hw1.runtime.device import Autocast, amp_dtype, autocast_of, pick_device
from hw1.utils.text import one_line

ONNX_MISSING = "is not installed; pip install -r requirements-onnx.txt"
FITS = {mode: fit for fit, mode in CROP_MODES.items()}
BATCH_SIZE = 64  # of a model that comes without a recipe

LogitsFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Computes logits [B, C] of resized RGB images [B, S, S, 3]."""


@dataclass(frozen=True)
class Classifier:
    """A model as `hw1.predict` uses it.

    Attributes:
        class_names: Name of each class folder, never empty.
        descriptions: What people call the classes, by their names; classes without a description are absent.
        rule: How an image becomes a square of the model's size.
        logits: Computes logits of such images.
        temperature: The temperature fitted on the validation split, which the logits are to be divided by; None if none was fitted.
        batch_size: Images at a time.
    """

    class_names: tuple[str, ...]
    descriptions: dict[str, str]
    rule: EvalRule
    logits: LogitsFunction
    temperature: float | None
    batch_size: int = BATCH_SIZE


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
        return _open_onnx(path, train) if path.suffix == ".onnx" else _open_export(path, train)
    return _open_run(RunFolder.existing(path), checkpoint or "best", train)


def class_names(predictor: Predictor) -> tuple[str, ...]:
    """Return the name of each class, as in a submission: an integer label without a folder is named by its number."""
    return tuple(name or str(label) for label, name in enumerate(predictor.classes.names))


def read_class_descriptions(root: str | None, names: Sequence[str]) -> dict[str, str]:
    """Read what `class_names.json` in the data's root calls the class folders: name -> description; empty if there is no such file."""
    try:
        content = json.loads((Path(root or "") / "class_names.json").read_bytes())
        return {name: content[name] for name in names if isinstance(content.get(name), str)}
    except (OSError, ValueError, AttributeError):  # no such file, or another one of that name
        return {}


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
    try:
        config = json.loads((folder / "config.json").read_bytes())
        names, descriptions = tuple(config["label_names"]), dict(config.get("label_descriptions", {}))
        temperature = config["hw1"]["temperature"]
        train = TrainConfig(device=train.device, amp=config["hw1"]["amp"])
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: not written by hw1.export, or damaged ({one_line(error)})") from None
    except Exception as error:  # timm, torch and safetensors have many errors, without a common base
        raise UserError(f"{folder}: cannot be opened: {one_line(error)}") from None
    device = pick_device(train)
    data = timm.data.config.resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    with_preprocess = WithPreprocess(model.to(memory_format=torch.channels_last), data["mean"], data["std"])
    logits = logits_function(with_preprocess, device, autocast_of(device, amp_dtype(train, device)))
    rule = EvalRule(data["input_size"][1], FITS[data["crop_mode"]], data["crop_pct"], data["interpolation"]).filled_with(data["mean"])
    return Classifier(names, descriptions, rule, logits, temperature)


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
        names, descriptions = tuple(json.loads(meta["class_names"])), json.loads(meta["class_descriptions"])
        temperature = float(meta["temperature"]) if "temperature" in meta else None
        [image] = session.get_inputs()
        rule = EvalRule(**json.loads(meta["resize"])) if "resize" in meta else EvalRule(image.shape[1])  # files of before are squashed
        rule = rule._replace(fill=tuple(rule.fill))
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: not written by hw1.export, or damaged ({one_line(error)})") from None
    return Classifier(names, descriptions, rule, lambda images: session.run(["logits"], {image.name: images})[0], temperature)
