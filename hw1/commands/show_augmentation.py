"""Draw what each step of a recipe's augmentation does to a few images: the image, each step in turn, then draws as the model gets them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw1.commands.train import check_augmentation, close
from hw1.config.load import load_recipe, with_sources
from hw1.config.recipe import Recipe
from hw1.config.settings import without_dashes
from hw1.config.shipped import RULE
from hw1.errors import UserError
from hw1.utils.console import show

NUM_DRAWS = 4


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", help=RULE)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe; values are YAML")
    parser.add_argument("--image", action="append", metavar="FILE", help="image to draw (repeatable); without, some training images")
    parser.add_argument("--num", type=int, default=4, help="how many training images (4)")
    parser.add_argument("--out", type=Path, default=Path("augmentation.png"), metavar="PNG", help="file to write (augmentation.png)")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command."""
    args = parse(argv, prog)
    if not 1 <= args.num <= 32:
        raise UserError(f"--num: from 1 to 32, got {args.num}")
    recipe = close(load_recipe(args.recipe, args.overrides))
    try:
        check_augmentation(recipe)
        draw(recipe, [Path(name) for name in args.image] if args.image else training_images(recipe, args.num), args.out)
    except UserError as error:
        raise UserError(*with_sources(error.problems, args.recipe, args.overrides)) from None
    show(str(args.out))


def training_images(recipe: Recipe, num: int) -> list[Path]:
    """Return training images of different classes, evenly spread over them.

    Raises:
        UserError: There are none, or they lie in no folder (`data.dataset`).
    """
    from hw1.data.image_folder import open_training_data

    train = open_training_data(recipe.data, recipe.seed, recipe.model.num_classes).train
    chosen = [train.path(index) for index in np.linspace(0, len(train) - 1, min(num, len(train))).round().astype(int)]
    return [Path(str(path)) for path in chosen]


def draw(recipe: Recipe, paths: Sequence[Path], out: Path) -> None:
    """Write the figure: a row for each image."""
    from hw1.data.augment.pipelines import augment_step_by_step
    from hw1.data.augment.transforms import build_train_transform
    from hw1.data.decode import BadImage, read_image
    from hw1.plots import plot_samples, save_figure

    transform = build_train_transform(recipe.aug)
    cells: list[NDArray[np.uint8]] = []
    titles: list[str] = []
    for index, path in enumerate(paths):
        try:
            image = read_image(path)
        except BadImage as error:
            raise UserError(str(error)) from None
        cells.append(image)
        titles.append(f"{path.name}\n{image.shape[1]} x {image.shape[0]}")
        for name, result in augment_step_by_step(recipe.aug, image, (recipe.seed, 0, index)):
            cells.append(result)
            titles.append(f"{name}\n{result.shape[1]} x {result.shape[0]}")
        for number in range(NUM_DRAWS):
            cells.append(transform(image, (recipe.seed, 1 + number, index)))
            titles.append(f"draw {number + 1}\nas the model gets it")
    try:
        save_figure(plot_samples(cells, titles, columns=len(cells) // len(paths)), out)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error.strerror}") from None
