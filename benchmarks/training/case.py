"""What is compared: a model, an image size and a batch size; weights for the model, and batches of random images on the device."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hw1.config.load import load_recipe
from hw1.config.recipe import TrainConfig
from hw1.data.image_set import ClassMap
from hw1.data.loader.base import Batch
from hw1.errors import UserError
from hw1.models.factory import build_model, check_model
from hw1.models.resolve import resolve
from hw1.runtime.device import amp_dtype

BASE = Path(__file__).parents[2] / "recipes" / "base.yaml"
SETTLING_IMAGES = 8


@dataclass(frozen=True)
class Case:
    model: str
    size: int
    """Height and width of the images, pixels."""
    batch: int
    num_classes: int = 100
    weights: Path | None = None
    """Where every loop's model starts; None: at random (`with_weights` makes a file)."""
    amp: str = "auto"
    """The recipe's `train.amp`: `off` is FP32."""

    def __str__(self) -> str:
        return f"{self.model}, {self.size} px, batch {self.batch}, amp {self.amp}"

    @property
    def classes(self) -> ClassMap:
        return ClassMap(tuple(str(number) for number in range(self.num_classes)))

    def describe(self) -> dict[str, Any]:
        """What a result file says of it."""
        return {"model": self.model, "size": self.size, "batch": self.batch, "amp": self.amp}

    def dtype(self, device: torch.device) -> torch.dtype:
        """What convolutions compute in on this device."""
        return amp_dtype(TrainConfig(amp=self.amp), device) or torch.float32  # type: ignore[arg-type]  # `parse_case` has checked it

    def overrides(self) -> list[str]:
        """Of a recipe."""
        weights = ["model.pretrained=false"] if self.weights is None else [f"model.weights={self.weights}"]
        return [f"model.name={self.model}", f"aug.size={self.size}", f"data.batch_size={self.batch}", f"train.amp={self.amp}", *weights]


def parse_case(text: str) -> Case:
    """`MODEL:SIZE:BATCH` or `MODEL:SIZE:BATCH:AMP`. Raises UserError for anything else, and for a model or a size that cannot be."""
    parts = text.split(":")
    if not 3 <= len(parts) <= 4 or not all(part.isdecimal() and int(part) for part in parts[1:3]):
        raise UserError(f"--case: reads MODEL:SIZE:BATCH[:AMP], as resnet18_cbam:96:32 or resnet18_cbam:96:32:off; got {text}")
    case = Case(parts[0], int(parts[1]), int(parts[2]), amp="".join(parts[3:]) or "auto")
    recipe, _ = resolve(load_recipe(BASE, case.overrides()))
    if problems := check_model(recipe.model, recipe.freeze, image_size=case.size):
        raise UserError(*(f"--case {text}: {problem}" for problem in problems))
    return case


@contextmanager
def with_weights(case: Case) -> Iterator[Case]:
    """The case with a file of weights, inside: as unlike zero as trained ones.

    A new ResNet's residual branches end in BatchNorms of weight 0: nothing in them would have a gradient, and products with zeros draw less
    power. Here BatchNorm's weights lie in 0.5 to 1.5 and its statistics are those of noise, the rest is as the model draws it.
    """
    recipe, _ = resolve(load_recipe(BASE, case.overrides()))
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, case.num_classes, load_weights=False, image_size=case.size).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(SETTLING_IMAGES, 3, case.size, case.size))
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(model.state_dict(), path)
        yield replace(case, weights=path)


def make_batches(case: Case, device: torch.device, *, channels_last: bool, num: int = 4) -> list[Batch]:
    """`num` batches of normalised noise with random labels: the same at every call, whatever the memory order."""
    rng = torch.Generator().manual_seed(0)
    order = torch.channels_last if channels_last else torch.contiguous_format
    batches = []
    for number in range(num):
        image = torch.randn(case.batch, 3, case.size, case.size, generator=rng)
        label = torch.randint(case.num_classes, (case.batch,), generator=rng)
        index = torch.arange(number * case.batch, (number + 1) * case.batch)
        batches.append(Batch(image.to(device).contiguous(memory_format=order), label.to(device), index))
    return batches
