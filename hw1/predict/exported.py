"""Read a folder that `hw1.export` wrote; refuse what was changed in it, or damaged, before anything of the size that it claims is made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor, nn

from hw1.config.contradictions import RECIPE_KEYS
from hw1.config.recipe import AugConfig, ModelConfig, TrainConfig
from hw1.data.augment.eval_resize import CROP_MODES
from hw1.errors import UserError
from hw1.evaluation.temperature import FittedTemperature, check_temperature
from hw1.models.factory import CBAM_ONLY, build_model
from hw1.predict.export_checks import FOREIGN, check_descriptions, check_names
from hw1.utils.text import one_line

OWN_ARGS = ("num_classes", "in_chans", "img_size", "cbam_stages", *CBAM_ONLY, "drop_layer3")
"""What `hw1.export` writes as `model_args` beside `model.kwargs`."""
FITS = {mode: fit for fit, mode in CROP_MODES.items()}
LARGEST = 4096
"""Of the numbers in other arguments, such as `layers`, and of their lengths: they could ask for a model of any size."""


@dataclass(frozen=True)
class ExportConfig:
    """The content of `config.json`, checked.

    Attributes:
        model: The network.
        aug: How an image becomes a square, and its normalisation.
        names: Name of each class.
        descriptions: What people call the classes, by their names.
        fitted: The fitted temperature; None if there is none.
        amp: The precision to compute in, see `train.amp`.
    """

    model: ModelConfig
    aug: AugConfig
    names: tuple[str, ...]
    descriptions: dict[str, str]
    fitted: FittedTemperature | None
    amp: Literal["auto", "bf16", "fp16", "off"]


def read_export_config(path: Path) -> ExportConfig:
    """Read the `config.json` of an exported folder.

    Raises:
        UserError: It cannot be read, or holds what `hw1.export` never writes.
    """
    try:
        return _parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {FOREIGN} ({'.'.join(map(str, first['loc']))}: {first['msg']})") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: {FOREIGN} ({one_line(error)})") from None


def _parse(config: dict[str, Any]) -> ExportConfig:
    names, args, data = check_names(config["label_names"]), config["model_args"], config["pretrained_cfg"]
    kwargs = {name: value for name, value in args.items() if name not in OWN_ARGS}
    if refused := [name for name, value in kwargs.items() if name in RECIPE_KEYS or not _is_small(value)]:
        raise ValueError(f"model_args: {', '.join(refused)}")
    for section, values in (("", config), ("model_args.", args), ("pretrained_cfg.", data)):
        if values["num_classes"] != len(names):
            raise ValueError(f"{section}num_classes is {values['num_classes']}, but there are {len(names)} label_names")
    channels, height, width = data["input_size"]
    if args.get("in_chans", 3) != channels or height != width:
        raise ValueError(f"input_size {data['input_size']}")
    cbam: dict[str, Any] = {"cbam_stages": (), "drop_layer3": 0.0}
    cbam |= {key: args[key] for key in ("cbam_stages", *CBAM_ONLY, "drop_layer3") if key in args}
    temperature = config["hw1"]["temperature"]
    return ExportConfig(
        model=ModelConfig(name=config["architecture"], pretrained=False, drop_rate=0.0, in_chans=channels, kwargs=kwargs, **cbam),
        aug=AugConfig(
            size=height,
            fit=FITS[data["crop_mode"]],
            crop_pct=data["crop_pct"],
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]) * (3 // channels),
            std=tuple(data["std"]) * (3 // channels),
        ),
        names=names,
        descriptions=check_descriptions(config.get("label_descriptions", {})),
        fitted=None if temperature is None else FittedTemperature(check_temperature(temperature)),
        amp=TrainConfig(amp=config["hw1"]["amp"]).amp,
    )


def _is_small(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= LARGEST and all(map(_is_small, value))
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST)


def load_export(folder: Path, config: ExportConfig) -> nn.Module:
    """Build the model of an exported folder with its weights, on the CPU.

    Raises:
        UserError: There is no such model; its tensors are not those in the file, or hold NaN or infinity; the file is damaged.
    """
    path = folder / "model.safetensors"
    try:
        with torch.device("meta"):
            wanted = {name: list(tensor.shape) for name, tensor in _build(config).state_dict().items()}
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error.problems[0]}") from None
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
            if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
                sides = " and ".join(str(shapes.get(wrong[0], "absent")) for shapes in (found, wanted))
                raise UserError(f"{path}: is not of the model in config.json: {wrong[0]} is {sides}")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in found}
    except UserError:
        raise
    except Exception as error:  # safetensors has errors of its own beside those of the system
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds what is not a finite number")
    model = _build(config)
    model.load_state_dict(tensors)
    return model


def _build(config: ExportConfig) -> nn.Module:
    return build_model(config.model, len(config.names), load_weights=False, image_size=config.aug.size)
