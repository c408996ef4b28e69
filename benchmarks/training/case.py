"""What is compared: a model, an image size and a batch size; and batches of random pictures for them, on the device already."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hw1.data.batch import Batch
from hw1.data.folders import ClassMap
from hw1.errors import UserError
from hw1.models.build import check_model
from hw1.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = RECIPES / "base.yaml"


@dataclass(frozen=True)
class Case:
    model: str
    size: int
    """Height and width of the images, pixels."""
    batch: int
    num_classes: int = 100

    @property
    def classes(self) -> ClassMap:
        return ClassMap(tuple(str(number) for number in range(self.num_classes)))

    def __str__(self) -> str:
        return f"{self.model}, {self.size} px, batch {self.batch}"

    def overrides(self) -> list[str]:
        """Of a recipe: without weights from outside, as they make no difference to the speed."""
        return [
            f"model.name={self.model}",
            "model.pretrained=false",
            f"aug.size={self.size}",
            f"data.batch_size={self.batch}",
        ]


def parse_case(text: str) -> Case:
    """`MODEL:SIZE:BATCH`. Raises UserError for anything else, and for a model or a size that cannot be."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts[1:]):
        raise UserError(f"--case: reads MODEL:SIZE:BATCH, as resnet18_cbam:96:32; got {text}")
    case = Case(parts[0], int(parts[1]), int(parts[2]))
    recipe = load_recipe(BASE, case.overrides())
    if problems := check_model(recipe.model, recipe.freeze, image_size=case.size):
        raise UserError(*(f"--case {text}: {problem}" for problem in problems))
    return case


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
