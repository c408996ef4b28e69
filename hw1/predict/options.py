"""The options of commands that predict with a model."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hw1.errors import UserError
from hw1.evaluation.temperature import add_temperature_option


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which model predicts, where, and how many classes of each image are shown."""
    parser.add_argument("model", metavar="RUN_OR_EXPORT", type=Path, help="run folder, folder that hw1 export wrote, or .onnx file")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes shown of each image (default: 5)")
    parser.add_argument("--checkpoint", choices=("best", "last", "ema"), help="weights of a run folder (default: best)")
    add_temperature_option(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")


def parse_model_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line with the options of `add_model_options`.

    Raises:
        UserError: `--top` is below 1.
    """
    args = parser.parse_args(argv)
    if args.top < 1:
        raise UserError(f"--top: must be at least 1, got {args.top}")
    return args
