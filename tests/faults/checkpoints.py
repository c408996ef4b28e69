"""Weights of other programs: with odd things beside them, under any key and prefix, cut anywhere; and files of another kind."""

import itertools
import random
from pathlib import Path

import timm
import torch
from helpers.strange_checkpoints import BESIDE, SAVERS, WITHOUT_WEIGHTS, WRAPPED, Weights

from faults.tally import Tally, expect
from hw1.config.recipe import ModelConfig
from hw1.errors import UserError
from hw1.models.factory import build_model

MODEL = ModelConfig(name="test_resnet", weights="weights.pth", cbam_stages=(), drop_layer3=0.0)


def strange_checkpoints(tally: Tally, folder: Path, n: int) -> None:
    """Each way to wrap weights, with things beside them in both formats of torch, is loaded to the bit, and told in one line; or, `n` times
    over, cut at any byte or of another kind, refused in one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.pth"
    torch.manual_seed(0)
    weights: Weights = timm.create_model("test_resnet", num_classes=5).state_dict()
    for i in range(n):
        rng = random.Random(f"strange {i}")
        for (what, (wrap, said)), (saver, save) in itertools.product(WRAPPED.items(), SAVERS.items()):
            beside = rng.sample(sorted(set(BESIDE) - ({"module"} if saver == "legacy" else set())), 3)
            with tally.attempt(f"{what} as {saver} beside {', '.join(beside)}, {i}"):
                save({**wrap(weights), **{f"beside {key}": BESIDE[key]() for key in beside}}, path)
                line = _load(path, weights)
                expect(said.rpartition(": ")[2] in line, f"says {line}")
            with tally.attempt(f"{what} as {saver}, cut, {i}"):
                path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
                _refuse(path)
        for what, (write, said) in WITHOUT_WEIGHTS.items():
            with tally.attempt(f"{what}, {i}"):
                write(weights, path)
                expect(said in (line := _refuse(path)), f"says {line}")


def _load(path: Path, weights: Weights) -> str:
    lines: list[str] = []
    state = build_model(MODEL.model_copy(update={"weights": str(path)}), 5, tell=lines.append).state_dict()
    expect(all(torch.equal(state[name], value) for name, value in weights.items()), "other weights")
    expect(len(lines) == 1 and lines[0].isprintable(), f"says {lines}")
    return lines[0]


def _refuse(path: Path) -> str:
    try:
        build_model(MODEL.model_copy(update={"weights": str(path)}), 5)
    except UserError as error:
        expect(len(error.problems) == 1 and error.problems[0].isprintable(), f"unclear: {error}")
        expect("weights_only" not in str(error), f"advises to load it unsafely: {error}")
        return str(error)
    raise AssertionError("was loaded")
