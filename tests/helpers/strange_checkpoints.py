"""Weights as other programs save them: under other keys and prefixes, beside objects of any class; and files that hold none."""

import argparse
import collections
import datetime
import enum
import functools
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]


class Settings(dict[str, Any]):
    """As of a program's own configuration."""


class Mode(enum.Enum):
    FAST = 1


def prefixed(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


BESIDE: dict[str, Callable[[], Any]] = {
    "numpy's numbers": lambda: [np.float64(0.5), np.int64(3), np.float32(1), np.bool_(True)],
    "numpy's arrays": lambda: {"history": np.arange(5.0), "names": np.array(["a", "b"])},
    "path": lambda: Path("/somewhere/best.pth"),
    "date": lambda: [datetime.datetime(2020, 1, 1), datetime.timedelta(1)],
    "namespace": lambda: argparse.Namespace(lr=0.1, out=Path("out")),
    "own dict": lambda: Settings(lr=0.1, deep=Settings(a=1)),
    "default dict": lambda: collections.defaultdict(list, {"a": [1]}),
    "deque": lambda: collections.deque([1, 2], maxlen=5),
    "enumeration": lambda: Mode.FAST,
    "partial": lambda: functools.partial(int, base=2),
    "module": lambda: nn.Sequential(nn.Linear(2, 2)),
    "scheduler": lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)], 0.1), 1),
}
"""What a training program may save beside the weights."""

WRAPPED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "alone": (lambda w: w, "weights.pth: kept"),
    **{
        key: (lambda w, key=key: {"epoch": 3, key: w}, f"took {key}")
        for key in ("model", "model_state_dict", "net", "weights", "params_ema")
    },
    "averaged first": (lambda w: {"state_dict": {k: v + 1 for k, v in w.items()}, "state_dict_ema": w}, "took state_dict_ema"),
    "no average": (lambda w: {"state_dict": w, "state_dict_ema": None}, "took state_dict"),
    "key of one's own": (lambda w: {"classifier_net": w, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}, "took classifier_net"),
    "two levels": (lambda w: {"model": {"state_dict": w}}, "took model.state_dict"),
    "parallel": (lambda w: {"state_dict": prefixed(w, "module.")}, "stripped module. off the names"),
    "compiled": (lambda w: prefixed(w, "module._orig_mod."), "stripped module._orig_mod. off the names"),
    "lightning": (lambda w: {"state_dict": prefixed(w, "model.") | {"loss.weight": torch.ones(3)}}, "left out loss.weight"),
    "moco": (lambda w: prefixed(w, "module.encoder_q.") | prefixed(w, "module.encoder_k."), "stripped module.encoder_q."),
    "dino": (
        lambda w: {"student": prefixed(w, "module.backbone."), "teacher": prefixed(w, "backbone.")},
        "took teacher; stripped",
    ),
    "swa": (lambda w: prefixed(w, "module.") | {"n_averaged": torch.tensor(3)}, "left out n_averaged"),
    "thop": (lambda w: {**w, "total_ops": torch.ones(1), "bn1.total_params": torch.ones(1)}, "left out total_ops, bn1.total_params"),
    "number among them": (lambda w: {**w, "epoch": 3}, "weights.pth: kept"),
}
"""How weights may be wrapped, and a part of what is to be said of it."""


def _as_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def _as_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


SAVERS = {"zip": _as_zip, "legacy": _as_legacy}


def _cut(weights: Weights, path: Path) -> None:
    torch.save(dict(weights), path)
    path.write_bytes(path.read_bytes()[:-100])


def _script(weights: Weights, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is an old format, of which there are many files
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))


WITHOUT_WEIGHTS: dict[str, tuple[Callable[[Weights, Path], Any], str]] = {
    "numbers": (lambda w, path: torch.save({"epoch": 3, "best": 0.5}, path), "holds epoch (int), best (float), but no weights by name"),
    "whole model": (lambda w, path: torch.save(nn.Linear(2, 2), path), "holds object of torch.nn.modules.linear.Linear, but no weights"),
    "model in a dict": (
        lambda w, path: torch.save({"model": nn.Linear(2, 2)}, path),
        "holds model (object of torch.nn.",
    ),
    "arrays": (lambda w, path: torch.save({k: v.numpy() for k, v in w.items()}, path), "(numpy array)"),
    "list": (lambda w, path: torch.save([dict(w)], path), "holds list, but no weights"),
    "nothing": (lambda w, path: path.write_bytes(b""), "is empty"),
    "text": (lambda w, path: path.write_text("no weights\n"), r"it begins with b'no weights\n'"),
    "web page": (lambda w, path: path.write_text("<!DOCTYPE html><html>"), "is a web page"),
    "lfs": (lambda w, path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"), "is a Git LFS pointer"),
    "protocol": (lambda w, path: torch.save(dict(w), path, pickle_protocol=4), "is written in a pickle protocol"),
    "plain pickle": (lambda w, path: path.write_bytes(pickle.dumps({"a": 1})), "is written in a pickle protocol"),
    "old module": (lambda w, path: _as_legacy({"model": nn.Linear(2, 2)}, path), "holds a module of torch with its code"),
    "numpy": (lambda w, path: np.savez(path.open("wb"), a=np.ones(2)), "is a file of numpy's"),
    "script": (_script, "is a TorchScript archive"),
    "cut": (_cut, "is cut short"),
}
"""Files without weights that can be read, and a part of what is to be said of each."""


def save_safetensors(weights: Weights, path: Path) -> None:
    safetensors.torch.save_file(dict(weights), path)
