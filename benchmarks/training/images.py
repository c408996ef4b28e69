"""Images in class folders, images or drawn ones, for benchmarks that read files or need something to learn."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.training.case import BASE, Case
from hw1.config.load import load_recipe
from hw1.config.recipe import Recipe
from hw1.data.image_folder import open_training_data
from hw1.data.image_set import TrainingData
from hw1.data.loader.base import Batch
from hw1.data.loader.loader import build_train_loader
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.models.resolve import resolve

SUFFIXES = (".jpg", ".jpeg")
DRAWN_PER_CLASS = 4


def make_class_folders(photos: Path | None, num: int, side: int, target: Path) -> str:
    """`target/train` and `target/val` with class folders of about `num` training images; returns what they are.

    Copies of those in `photos` (the report's layout), chosen at random; without it, squares of `side` (32 to 512) pixels are drawn, at
    least one of each of 100 classes. Raises UserError for a folder without images.
    """
    if photos is None:
        draw_shapes(target, min(DRAWN_PER_CLASS, max(num // 100, 1)), size=side)
        drawn = sorted((target / "train").glob("*/*.jpg"))
        for number in range(len(drawn), num // 100 * 100):  # further names of the same files: drawing takes longer than reading
            path = drawn[number % len(drawn)]
            os.link(path, path.with_name(f"again{number}.jpg"))
        return f"generated images of {side} x {side} pixels"
    classes: set[str] = set()
    for split, count in (("train", num), ("val", max(num // 8, 1))):
        found = sorted(path for path in (photos / split).rglob("*") if path.suffix.lower() in SUFFIXES)
        found = [path for path in found if split == "train" or path.relative_to(photos / split).parts[0] in classes]
        if not found:
            raise UserError(f"{photos / split}: no JPEG files; name another folder in HW1_PHOTOS, or none to have images drawn")
        for index in np.random.default_rng(0).permutation(len(found))[:count]:
            path = target / split / found[index].relative_to(photos / split)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found[index], path)
        classes |= {path.name for path in (target / split).iterdir()}
    return f"images of {photos.name}"


def open_folders(case: Case, root: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, TrainingData]:
    """The recipe of `case` for the data in `root`, and these data."""
    recipe, _ = resolve(load_recipe(BASE, [*case.overrides(), f"data.root={root}", *overrides]))
    return recipe, open_training_data(recipe.data, recipe.seed, None)


def read_batches(case: Case, device: torch.device, num: int, photos: Path | None) -> list[Batch]:
    """The first `num` training batches, augmented, of images or drawn images; fewer only where there are fewer."""
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as name:
        root = Path(name) / "pictures"
        make_class_folders(photos, num * case.batch, min(max(case.size, 32), 512), root)
        recipe, data = open_folders(case, root, ["data.num_workers=0"])
        loader = build_train_loader(data.train, recipe, device)
        try:
            return list(islice(loader.epoch(0), num))
        finally:
            loader.close()
