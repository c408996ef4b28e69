"""The temperature that divides a model's logits: 1, unless another one is asked for. No NumPy or torch."""

import argparse
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hw1.errors import UserError
from hw1.runs.folder import RunFolder
from hw1.utils.console import say
from hw1.utils.own_command import hw1_command

MIN_IMAGES = 500
"""Fewer images do not determine a temperature: in a simulation (10 classes at an accuracy of 0.66, 100 at 0.56, logits 1.1 times too large)
its standard deviation was 12% on 60 images, 7% on 200, 5% on 500, and it made images that had no part in it worse in 18%, 5% and 2% of
the draws."""
RequestedTemperature = float | Literal["fitted"]


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature that an evaluation of the validation split fitted.

    Attributes:
        value: What to divide the logits by, above 0.
        doubt: Why it is not offered, see `why_doubtful`; empty where it is.
    """

    value: float
    doubt: str = ""


def why_doubtful(num_images: int, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Say why a temperature is not to be offered.

    Args:
        num_images: Images that it was fitted on.
        before: Metrics of `hw1.evaluation.calibration.measure` as the logits are.
        after: The same with the temperature, cross-fitted.

    Returns:
        Too few images, or that cross-entropy or Brier score did not improve; empty where it is to be offered.
    """
    if num_images < MIN_IMAGES:
        return f"fitted on {num_images} images, of which it takes {MIN_IMAGES}"
    worse = [title for key, title in (("nll", "cross-entropy"), ("brier", "Brier score")) if not after[key] < before[key]]
    return f"on images that it was not fitted on {' and '.join(worse)} did not improve" if worse else ""


def add_temperature_option(parser: argparse.ArgumentParser) -> None:
    """Add `--temperature`, whose value is a `RequestedTemperature`, 1 by default."""
    parser.add_argument(
        "--temperature",
        type=parse_temperature,
        default=1.0,
        metavar="fitted|NUMBER",
        help="divide the logits by the one that hw1 validate fitted on val, or by a number above 0 (default: 1)",
    )


def parse_temperature(text: str) -> RequestedTemperature:
    """Parse the value of `--temperature`.

    Raises:
        UserError: It is neither "fitted" nor a finite number above 0.
    """
    if text == "fitted":
        return "fitted"
    try:
        return check_temperature(float(text))
    except ValueError:
        raise UserError(f"--temperature: must be fitted or a number above 0, got {text}") from None


def check_temperature(value: object) -> float:
    """Return a temperature from a file or the command line.

    Raises:
        ValueError: It is no finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"temperature {value!r}: must be a number above 0")
    return float(value)


def load_temperature(run: RunFolder, facts: dict[str, Any]) -> FittedTemperature | None:
    """Read the temperature that an evaluation of the validation split fitted.

    Args:
        run: The run's folder.
        facts: `Predictor.facts` of the weights.

    Returns:
        The temperature; None if none was fitted for these weights.

    Raises:
        UserError: The file is damaged.
    """
    try:
        saved = json.loads(run.calibration.read_bytes())
        if any(saved[key] != facts.get(key, 0) for key in ("checkpoint", "epoch", "step")):
            return None
        doubt = why_doubtful(saved["num_images"], saved["before"], saved["after"])
        return FittedTemperature(check_temperature(saved["temperature"]), doubt)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{run.calibration}: damaged; {hw1_command()} validate {shlex.quote(str(run.path))} writes it anew") from None


def choose_temperature(requested: RequestedTemperature, fitted: FittedTemperature | None) -> float:
    """Return the temperature that is asked for; say where the fitted one is doubtful.

    Raises:
        UserError: The fitted one is asked for, and there is none.
    """
    if requested != "fitted":
        return requested
    if fitted is None:
        raise UserError(
            f"--temperature fitted: none was fitted for these weights; {hw1_command()} validate RUN_DIR does, with --checkpoint as here"
        )
    if fitted.doubt:
        say(f"--temperature fitted: {fitted.value:.3f} is doubtful: {fitted.doubt}")
    return fitted.value
