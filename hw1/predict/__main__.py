"""Predict the classes of images: hw1 predict RUN_OR_EXPORT IMAGE|DIR|GLOB... [--out FILE] [--draw DIR]."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from hw1.config.recipe import TrainConfig
from hw1.errors import UserError, collect_as_usual, run_command
from hw1.evaluation.temperature import choose_temperature
from hw1.predict.find_images import find_images, split_paths
from hw1.predict.options import add_model_options, parse_model_options
from hw1.runs.folder import RunFolder
from hw1.utils.console import say, show
from hw1.utils.progress_bar import ProgressBar
from hw1.utils.text import printable

if TYPE_CHECKING:
    from hw1.data.decode import BadImage
    from hw1.predict.classifier import Classifier

EXIT_CODES = "exit codes: 0 done, 2 a mistake in the command or an unreadable image (no file was written), 3 failed, 130 interrupted"


def parse(argv: Sequence[str], prog: str = "python -m hw1.predict") -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: An option has a wrong value.
    """
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    add_model_options(parser)
    parser.add_argument("images", metavar="IMAGE|DIR|GLOB", nargs="*", help="folders are read at any depth; - reads paths from stdin")
    parser.add_argument("-0", "--null", action="store_true", help="read paths from stdin, each ended by a NUL byte (find -print0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a .csv or .json file instead of lines to stdout")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write each image there with its three likeliest classes above it")
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read instead of stopping")
    args = parse_model_options(parser, argv)
    if args.out and args.out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {printable(args.out)}: the name must end in .csv or .json")
    if args.out and args.out.is_dir():
        raise UserError(f"--out {printable(args.out)}: is a folder")
    if args.draw and args.draw.exists() and not args.draw.is_dir():
        raise UserError(f"--draw {printable(args.draw)}: is no folder")
    for option, path in (("--out", args.out), ("--draw", args.draw)):
        if path and not path.absolute().parent.is_dir():
            raise UserError(f"{option} {printable(path)}: the folder that it would be in does not exist")
    return args


def main(argv: Sequence[str], prog: str = "python -m hw1.predict") -> None:
    """Run the command."""
    args = parse(argv, prog)
    paths = find_named_images(args.images, null=args.null)
    for text in args.images:
        if args.draw and Path(text).is_dir() and args.draw.resolve().is_relative_to(Path(text).resolve()):
            raise UserError(f"--draw {printable(args.draw)}: lies in {text}, whose images are read; choose a folder elsewhere")

    from hw1.predict.writers import plan_drawings  # OpenCV takes a while to import: only once the arguments are right

    targets = plan_drawings(args.draw, paths) if args.draw else []

    from hw1.predict.open_classifier import open_classifier

    classifier = open_classifier(args.model, args.checkpoint, TrainConfig(device=args.device))
    temperature = choose_temperature(args.temperature, classifier.fitted)
    try:
        predict(args, classifier, temperature, paths, targets)
    except BrokenPipeError:  # the reader has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_named_images(images: Sequence[str], *, null: bool) -> list[Path]:
    """Find the images of the arguments and of stdin.

    Args:
        images: Files, folders and patterns; `-` reads paths from stdin.
        null: Read paths from stdin, separated by NUL bytes instead of line ends.

    Raises:
        UserError: There is no image.
    """
    arguments = [text for text in images if text != "-"]
    listed = split_paths(sys.stdin.buffer.read(), b"\0" if null else b"\n") if null or "-" in images else []
    if not images and not null:
        raise UserError("no image given: name files, folders or patterns, or - for paths from stdin")
    return find_images(arguments, listed)


def predict(args: argparse.Namespace, classifier: "Classifier", temperature: float, paths: Sequence[Path], targets: Sequence[Path]) -> None:
    """Read, classify and write batch by batch, so that memory does not grow with the number of images."""
    from hw1.predict.top_k import classify
    from hw1.predict.writers import Writer, drawing_writer, print_prediction, table_writer

    collect_as_usual()
    bad: list[str] = []
    num_classes = min(args.top, len(classifier.class_names))

    def on_bad(error: "BadImage") -> None:
        if not args.skip_bad:
            raise UserError(f"{error}; --skip-bad leaves out what cannot be read")
        bad.append(str(error))

    start = time.monotonic()
    with ExitStack() as stack:
        writers: list[Writer] = [stack.enter_context(table_writer(args.out, num_classes)) if args.out else print_prediction]
        if args.draw:
            writers.append(stack.enter_context(drawing_writer(args.draw, targets)))
        if RunFolder(args.model).config.is_file():
            from hw1.predict.tracked import tracker_writer

            writers += stack.enter_context(tracker_writer(args.model))
        is_mixed = not args.out and sys.stdout.isatty()  # a bar between the lines would be in their way
        bar = stack.enter_context(ProgressBar(total=len(paths), unit=" images", disable=True if is_mixed else None, leave=False))
        for prediction in classify(classifier, paths, temperature, num_classes, on_bad):
            for write in writers:
                write(prediction)
            bar.update()
        if len(bad) == len(paths):
            raise UserError(*bad[:10], f"none of {len(paths)} images can be read")
    if bad:
        say(f"skipped: {len(bad)} of {len(paths)} images cannot be read: {'; '.join(bad[:3])}{'; ...' * (len(bad) > 3)}")
    rate = len(paths) / (time.monotonic() - start)
    for target in filter(None, (args.out, args.draw)):
        show(f"{printable(target)}: {len(paths) - len(bad)} images, {rate:.0f} images/s")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
