"""Draw what a run attends to in images: hw1 attention RUN_DIR IMAGE|DIR|GLOB... [--class NAME] [--out attention.png].

One row per image: the image as the model gets it, Grad-CAM over it, and the spatial gate and the channel gates of each CBAM.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw1.errors import UserError, run_command
from hw1.evaluation.temperature import add_temperature_option, choose_temperature, load_temperature
from hw1.predict.find_images import find_images
from hw1.runs.folder import RunFolder
from hw1.utils.console import say, show
from hw1.utils.text import printable

if TYPE_CHECKING:
    from hw1.data.decode import BadImage
    from hw1.evaluation.predictor import Predictor

MAX_ROWS = 16


def parse(argv: Sequence[str], prog: str = "python -m hw1.attention") -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: `--out` is no file that could be written.
    """
    usage, _, details = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(prog, description=usage, epilog=details)
    parser.add_argument("run", metavar="RUN_DIR", help="run folder that hw1 train wrote, runs/<name>/seed<seed>")
    parser.add_argument(
        "images", metavar="IMAGE|DIR|GLOB", nargs="+", help=f"folders are read at any depth; the first {MAX_ROWS} are shown"
    )
    parser.add_argument("--class", dest="label", metavar="NAME", help="the class whose evidence is shown (default: each image's predicted)")
    parser.add_argument("--out", type=Path, default=Path("attention.png"), metavar="FILE.png")
    add_temperature_option(parser)
    parser.add_argument("--checkpoint", choices=("best", "last", "ema"), default="best")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    args = parser.parse_args(argv)
    if args.out.suffix != ".png" or args.out.is_dir():
        raise UserError(f"--out {printable(args.out)}: must be a file whose name ends in .png")
    if not args.out.absolute().parent.is_dir():
        raise UserError(f"--out {printable(args.out)}: the folder that it would be in does not exist")
    return args


def main(argv: Sequence[str], prog: str = "python -m hw1.attention") -> None:
    """Run the command."""
    args = parse(argv, prog)
    run = RunFolder.existing(args.run)
    recipe = run.read_recipe([f"train.device={args.device}"])
    paths = find_images(args.images)
    if args.out.resolve() in {path.resolve() for path in paths}:
        raise UserError(f"--out {printable(args.out)}: is one of the images")
    if len(paths) > MAX_ROWS:
        say(f"the first {MAX_ROWS} of {len(paths)} images are shown")
        paths = paths[:MAX_ROWS]

    from hw1.attention.figure_rows import attention_rows  # torch takes seconds to import: only once the arguments are right
    from hw1.data.augment.eval_resize import EvalRule
    from hw1.evaluation.predictor import load_predictor
    from hw1.plots import plot_attention, save_figure
    from hw1.predict.image_batches import read_images

    predictor = load_predictor(run, recipe, args.checkpoint)
    label = None if args.label is None else find_class(predictor, args.label)
    [batch] = read_images(paths, EvalRule.of(recipe.aug), len(paths), raise_bad_image)
    classes: NDArray[np.int64] | None = None if label is None else np.full(len(paths), label)
    temperature = choose_temperature(args.temperature, load_temperature(run, predictor.facts))
    save_figure(plot_attention(attention_rows(predictor, batch.pixels, [path.name for path in paths], classes, temperature)), args.out)
    show(f"{printable(args.out)}: {len(paths)} images")


def find_class(predictor: "Predictor", name: str) -> int:
    """Return the label of a class folder.

    Raises:
        UserError: There is no such folder; the nearest name is suggested.
    """
    from difflib import get_close_matches

    labels = predictor.classes.labels
    if name not in labels:
        near = get_close_matches(name, labels, 1)
        raise UserError(f"--class {name}: the run has no such class" + (f"; did you mean {near[0]}?" if near else ""))
    return labels[name]


def raise_bad_image(error: "BadImage") -> None:
    """Raise a `UserError` for an image that cannot be read."""
    raise UserError(str(error))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
