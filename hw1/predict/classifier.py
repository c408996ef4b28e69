"""A run folder, an exported folder or an `.onnx` file -> one function from images to logits, with the classes' names."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import timm.data
import torch
from numpy.typing import NDArray
from torch import nn

import hw1.models  # noqa: F401 - registers the models that an exported folder may name
from hw1.config.recipe import TrainConfig
from hw1.errors import UserError
from hw1.evaluation.predictor import Checkpoint, Predictor, load_predictor, load_temperature
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.models.preprocess import WithPreprocess
from hw1.runs.folder import RunFolder
from hw1.runtime.device import Autocast, amp_dtype, autocast_of, pick_device
from hw1.utils.text import one_line

ONNX_MISSING = "is not installed; pip install -r requirements-onnx.txt"
BATCH_SIZE = 64  # of a model that comes without a recipe


@dataclass(frozen=True)
class Classifier:
    """A model as `hw1.predict` uses it."""

    names: tuple[str, ...]
    """Of each class, its folder's; none is empty."""
    words: dict[str, str]
    """What people call the classes, by their names; those that have no other name are absent."""
    size: int
    """Height and width of the images that it takes, pixels."""
    logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """Resized RGB images [B, S, S, 3] to logits [B, C]."""
    temperature: float | None
    """What the logits are to be divided by, as fitted on the validation split; None where that was not done."""
    batch_size: int = BATCH_SIZE


def open_classifier(path: Path, checkpoint: Checkpoint | None, train: TrainConfig) -> Classifier:
    """Opens what `hw1.predict` was given; `train` says on which device to compute.

    Raises `UserError` for a path that is none of the three, or damaged, and for a `checkpoint` of something that is no run.
    """
    if path.suffix == ".onnx" or (path / "config.json").is_file():
        if checkpoint is not None:
            raise UserError(f"--checkpoint: {path} holds one set of weights; only a run folder has several")
        return _open_onnx(path, train) if path.suffix == ".onnx" else _open_export(path, train)
    run = RunFolder.existing(path)
    predictor = load_predictor(run, run.read_recipe([f"train.device={train.device}"]), checkpoint or "best")
    return of_predictor(predictor, load_temperature(run, predictor.facts))


def of_predictor(predictor: Predictor, temperature: float | None) -> Classifier:
    recipe, device = predictor.recipe, predictor.device
    pixels = WithPreprocess(predictor.model, recipe.aug.mean, recipe.aug.std, channels_last=recipe.train.channels_last)
    autocast = autocast_of(device, amp_dtype(recipe.train, device))
    names = class_names(predictor)
    logits = logits_of(pixels, device, autocast)
    return Classifier(names, read_words(recipe.data.root, names), recipe.aug.size, logits, temperature, recipe.data.eval_batch_size)


def class_names(predictor: Predictor) -> tuple[str, ...]:
    """As a submission names them: an integer label without a folder by its number."""
    return tuple(name or str(label) for label, name in enumerate(predictor.classes.names))


def logits_of(
    model: nn.Module, device: torch.device, autocast: Autocast = nullcontext
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """`model`, from pixels to logits, moved to the device, in eval mode and with BatchNorm folded, as a function of arrays."""
    model = fuse_batchnorm(model.to(device))

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast():
            return model(torch.from_numpy(pixels).to(device)).float().cpu().numpy()

    return logits


def read_words(root: str | None, names: Sequence[str]) -> dict[str, str]:
    """What `class_names.json` in the data's root calls the class folders, where there is one: folder name -> words."""
    try:
        content = json.loads((Path(root or "") / "class_names.json").read_bytes())
        return {name: content[name] for name in names if isinstance(content.get(name), str)}
    except (OSError, ValueError, AttributeError):  # none, or something else of that name
        return {}


def _open_export(folder: Path, train: TrainConfig) -> Classifier:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        names, words = tuple(config["label_names"]), dict(config.get("label_descriptions", {}))
        temperature = config["hw1"]["temperature"]
        train = TrainConfig(device=train.device, amp=config["hw1"]["amp"])
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: not written by hw1.export, or damaged ({one_line(error)})") from None
    except Exception as error:  # timm, torch and safetensors have many errors, without a common base
        raise UserError(f"{folder}: cannot be opened: {one_line(error)}") from None
    device = pick_device(train)
    data = timm.data.resolve_model_data_config(model)
    pixels = WithPreprocess(model.to(memory_format=torch.channels_last), data["mean"], data["std"])
    logits = logits_of(pixels, device, autocast_of(device, amp_dtype(train, device)))
    return Classifier(names, words, data["input_size"][1], logits, temperature)


def _open_onnx(path: Path, train: TrainConfig) -> Classifier:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: onnxruntime {ONNX_MISSING}") from None
    wanted = {"cuda": ["CUDAExecutionProvider"], "cpu": ["CPUExecutionProvider"]}
    providers = wanted.get(train.device, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    providers = [name for name in providers if name in onnxruntime.get_available_providers()]
    if not providers:
        raise UserError(f"--device {train.device}: this onnxruntime computes on {', '.join(onnxruntime.get_available_providers())} only")
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
        meta = session.get_modelmeta().custom_metadata_map
        names, words = tuple(json.loads(meta["class_names"])), json.loads(meta["class_descriptions"])
        temperature = float(meta["temperature"]) if "temperature" in meta else None
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: not written by hw1.export, or damaged ({one_line(error)})") from None
    [image] = session.get_inputs()
    return Classifier(names, words, image.shape[1], lambda pixels: session.run(["logits"], {image.name: pixels})[0], temperature)
