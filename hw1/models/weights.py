"""State dicts: reading a file, and what may be missing from one."""

from pathlib import Path
from typing import Any, cast

import timm.models
import torch
from torch import Tensor, nn

from hw1.models.cbam import Cbam
from hw1.utils.safe_load import check_torch_file
from hw1.utils.text import one_line, some_of

NUM_NAMED = 4  # keys that a message names before it counts the rest


class WeightsError(RuntimeError):
    """A state dict does not fit the model, or a file is not one; the message is one line."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors` file or one of `torch.save` (read with `weights_only=True`: no code is run).

    Training checkpoints are unwrapped (keys `state_dict_ema`, `model_ema`, `state_dict`, `model`; prefixes `module.`,
    `_orig_mod.`). Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError("no such file" if not path.exists() else "not a file")
    try:
        if path.suffix != ".safetensors":
            check_torch_file(path)
        state_dict = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file makes the reader stumble over
        raise WeightsError(f"not a .safetensors or .pth file of weights ({one_line(error)})") from error
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise WeightsError("holds no state dict (tensors by name)")
    return state_dict


def add_new_tensors(state_dict: dict[str, Tensor], model: nn.Module, *, features_only: bool = False) -> dict[str, Tensor]:
    """Completes the weights of a plain ResNet with the model's own fresh CBAM tensors, so that they load strictly.

    timm's `pretrained_filter_fn`, called before timm adapts the input layer and drops a head of another size: after it timm
    reports missing keys at log level INFO only, so everything is checked here. A CBAM may be in the file or not, but not in
    parts. `features_only` says that timm will drop the head.

    Raises WeightsError, naming the keys, for tensors that are missing, unexpected or of another shape.
    """
    cfg = cast("dict[str, Any]", model.pretrained_cfg)
    own = model.state_dict()
    drops_head = features_only or model.num_classes != cfg["num_classes"]
    exempt = {f"{cfg['classifier']}.{name}" for name in ("weight", "bias")} if drops_head else set()
    new = _absent_cbam_keys(state_dict, model) | {key for key in own if key.endswith(".num_batches_tracked")}
    filled = {key: own[key] for key in new if key not in state_dict} | state_dict
    problems = []
    if missing := [key for key in own if key not in filled and key not in exempt]:
        problems.append(f"missing {some_of(missing, NUM_NAMED)}")
    if unexpected := [key for key in filled if key not in own and key not in exempt]:
        problems.append(f"unexpected {some_of(unexpected, NUM_NAMED)}")
    shared = [key for key in own if key in filled and key not in exempt]
    if wrong := [key for key in shared if filled[key].shape not in _loadable_shapes(key, own[key].shape, model)]:
        problems.append(
            f"wrong shape of {some_of((f'{key} {list(filled[key].shape)}, not {list(own[key].shape)}' for key in wrong), NUM_NAMED)}"
        )
    if problems:
        raise WeightsError(f"the weights do not fit {cfg['architecture']}: {'; '.join(problems)}")
    return filled


def _absent_cbam_keys(state_dict: dict[str, Tensor], model: nn.Module) -> set[str]:
    """Keys of the CBAMs of which the file has nothing at all."""
    absent = set()
    for name, module in model.named_modules():
        if isinstance(module, Cbam):
            keys = {f"{name}.{key}" for key in module.state_dict()}
            if keys.isdisjoint(state_dict):
                absent |= keys
    return absent


def _loadable_shapes(key: str, shape: torch.Size, model: nn.Module) -> set[tuple[int, ...]]:
    """The model's own shape; for the input layer also that of the file's own images, which timm adapts afterwards."""
    cfg = cast("dict[str, Any]", model.pretrained_cfg)
    source_channels = cfg["input_size"][0]
    if key == f"{cfg['first_conv']}.weight" and model.in_chans != source_channels:
        return {tuple(shape), (shape[0], source_channels, *shape[2:])}
    return {tuple(shape)}
