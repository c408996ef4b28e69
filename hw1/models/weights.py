"""Read weights from a file, and complete those of a model without CBAM."""

from pathlib import Path
from typing import Any, cast

import timm.models
import torch
from torch import Tensor, nn

from hw1.models.cbam import Cbam
from hw1.utils.safe_load import check_torch_file
from hw1.utils.text import one_line, some_of

NUM_NAMED = 4  # keys that a message names; the rest are counted


class WeightsError(RuntimeError):
    """A state dict does not fit the model, or a file holds none; the message is one line."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a `.safetensors` file or a file of `torch.save`, without running code from it.

    Training checkpoints are unwrapped (keys `state_dict_ema`, `model_ema`, `state_dict`, `model`; prefixes `module.`, `_orig_mod.`).

    Raises:
        WeightsError: The file is missing, or no file of weights.
    """
    if not path.is_file():
        raise WeightsError("no such file" if not path.exists() else "not a file")
    try:
        if path.suffix != ".safetensors":
            check_torch_file(path)
        state_dict = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or foreign file may raise anything
        raise WeightsError(f"not a .safetensors or .pth file of weights ({one_line(error)})") from error
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise WeightsError("holds no state dict (tensors by name)")
    return state_dict


def add_new_tensors(state_dict: dict[str, Tensor], model: nn.Module, *, features_only: bool = False) -> dict[str, Tensor]:
    """Complete the weights of a plain ResNet with the model's new CBAM tensors, so that they load strictly.

    Use as timm's `pretrained_filter_fn`, which is called before timm adapts the input layer and drops a head of another size. Afterwards
    timm reports missing keys at log level INFO only, so everything is checked here.

    Args:
        state_dict: Weights; they hold each CBAM as a whole or not at all.
        model: The model that they are for, with its starting values.
        features_only: Whether timm will drop the head.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape; the message names them.
    """
    cfg = cast("dict[str, Any]", model.pretrained_cfg)
    expected = model.state_dict()
    drops_head = features_only or model.num_classes != cfg["num_classes"]
    exempt = {f"{cfg['classifier']}.{name}" for name in ("weight", "bias")} if drops_head else set()
    new = _absent_cbam_keys(state_dict, model) | {key for key in expected if key.endswith(".num_batches_tracked")}
    filled = {key: expected[key] for key in new if key not in state_dict} | state_dict
    problems = []
    if missing := [key for key in expected if key not in filled and key not in exempt]:
        problems.append(f"missing {some_of(missing, NUM_NAMED)}")
    if unexpected := [key for key in filled if key not in expected and key not in exempt]:
        problems.append(f"unexpected {some_of(unexpected, NUM_NAMED)}")
    shared = [key for key in expected if key in filled and key not in exempt]
    if wrong := [key for key in shared if filled[key].shape not in _loadable_shapes(key, expected[key].shape, model)]:
        shapes = (f"{key} {list(filled[key].shape)}, not {list(expected[key].shape)}" for key in wrong)
        problems.append(f"wrong shape of {some_of(shapes, NUM_NAMED)}")
    if problems:
        raise WeightsError(f"the weights do not fit {cfg['architecture']}: {'; '.join(problems)}")
    return filled


def _absent_cbam_keys(state_dict: dict[str, Tensor], model: nn.Module) -> set[str]:
    """Return the keys of the CBAMs of which the file has no tensor."""
    absent = set()
    for name, module in model.named_modules():
        if isinstance(module, Cbam):
            keys = {f"{name}.{key}" for key in module.state_dict()}
            if keys.isdisjoint(state_dict):
                absent |= keys
    return absent


def _loadable_shapes(key: str, shape: torch.Size, model: nn.Module) -> set[tuple[int, ...]]:
    """Return the model's shape and, for the input layer, also that for the file's image channels, which timm adapts afterwards."""
    cfg = cast("dict[str, Any]", model.pretrained_cfg)
    source_channels = cfg["input_size"][0]
    if key == f"{cfg['first_conv']}.weight" and model.in_chans != source_channels:
        return {tuple(shape), (shape[0], source_channels, *shape[2:])}
    return {tuple(shape)}
