"""Make weights from a file fit a model: strip a prefix, leave out what is no weight, complete those of a model without CBAM."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
from timm.models import clean_state_dict
from torch import Tensor, nn

from hw1.models.cbam import Cbam
from hw1.models.weights import NUM_NAMED, WeightsError
from hw1.utils.text import some_of

COUNTERS = frozenset({"n_averaged", "total_ops", "total_params"})
"""Last parts of names that torch's SWA and thop add to a state dict."""


class Renamed(NamedTuple):
    """Weights under the model's names."""

    state_dict: dict[str, Tensor]
    prefix: str
    """What was stripped."""
    left_out: list[str]
    """The file's names of the other tensors."""


def fit_names(state_dict: Mapping[str, Tensor], expected: Collection[str]) -> Renamed:
    """Strip the prefix that a wrapper has put before the names (`module.`, `_orig_mod.`, Lightning's `model.`, MoCo's `encoder_q.`).

    A prefix is stripped only where more than half of the model's names follow it, and more than fit without. Of several, as `student.` and
    `teacher.`, the first is taken. What lies outside of it is left out, and so are counters (`COUNTERS`). Of names that do not fit at all,
    which timm may know how to translate, the prefixes of DistributedDataParallel and torch.compile are stripped.

    Args:
        state_dict: Tensors by name.
        expected: The model's names.
    """
    names = frozenset(expected)
    fitting: Counter[str] = Counter({"": 0})
    for name in state_dict:
        starts = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        fitting.update(name[:start] for start in starts if name[start:] in names)
    prefix = max(fitting, key=fitting.__getitem__)
    if 2 * fitting[prefix] <= len(names):
        prefix, state_dict = "", clean_state_dict(dict(state_dict))
    kept, left_out = {}, []
    for name, value in state_dict.items():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and (own in names or own.rpartition(".")[2] not in COUNTERS):
            kept[own] = value
        else:
            left_out.append(name)
    return Renamed(kept, prefix, left_out)


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
    new = absent_cbam_keys(state_dict, model) | {key for key in expected if key.endswith(".num_batches_tracked")}
    filled = {key: expected[key] for key in new if key not in state_dict} | state_dict
    if problem := why_unfit(filled, model, exempt):
        raise WeightsError(problem)
    return filled


def why_unfit(state_dict: Mapping[str, Tensor], model: nn.Module, exempt: Collection[str] = ()) -> str | None:
    """Return which tensors are missing, unexpected or of another shape, on one line; None if they fit.

    Args:
        state_dict: Weights.
        model: The model that they are for; it may be on the meta device.
        exempt: Names that do not count.
    """
    cfg, expected = cast("dict[str, Any]", model.pretrained_cfg), model.state_dict()
    problems = []
    if missing := [key for key in expected if key not in state_dict and key not in exempt]:
        problems.append(f"missing {some_of(missing, NUM_NAMED)}")
    if unexpected := [key for key in state_dict if key not in expected and key not in exempt]:
        problems.append(f"unexpected {some_of(unexpected, NUM_NAMED)}")
    shared = [key for key in expected if key in state_dict and key not in exempt]
    if wrong := [key for key in shared if state_dict[key].shape not in _loadable_shapes(key, expected[key].shape, model)]:
        shapes = (f"{key} {list(state_dict[key].shape)}, not {list(expected[key].shape)}" for key in wrong)
        problems.append(f"wrong shape of {some_of(shapes, NUM_NAMED)}")
    return f"the weights do not fit {cfg['architecture']}: {'; '.join(problems)}" if problems else None


def absent_cbam_keys(state_dict: Iterable[str], model: nn.Module) -> set[str]:
    """Return the keys of the CBAMs of which the file has no tensor."""
    absent, names = set(), frozenset(state_dict)
    for name, module in model.named_modules():
        if isinstance(module, Cbam):
            keys = {f"{name}.{key}" for key in module.state_dict()}
            if keys.isdisjoint(names):
                absent |= keys
    return absent


def _loadable_shapes(key: str, shape: torch.Size, model: nn.Module) -> set[tuple[int, ...]]:
    """Return the model's shape and, for the input layer, also that for the file's image channels, which timm adapts afterwards."""
    cfg = cast("dict[str, Any]", model.pretrained_cfg)
    source_channels = cfg["input_size"][0]
    if key == f"{cfg.get('first_conv')}.weight" and getattr(model, "in_chans", source_channels) != source_channels:
        return {tuple(shape), (shape[0], source_channels, *shape[2:])}
    return {tuple(shape)}
