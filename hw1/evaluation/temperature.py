"""The temperature that divides a model's logits: 1, unless another one is asked for. No torch."""

import argparse
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from hw1.errors import UserError
from hw1.evaluation.calibration import why_doubtful
from hw1.runs.folder import RunFolder
from hw1.utils.console import say

RequestedTemperature = float | Literal["fitted"]


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature that an evaluation of the validation split fitted.

    Attributes:
        value: What to divide the logits by, above 0.
        doubt: Why it is not offered, see `hw1.evaluation.calibration.why_doubtful`; empty where it is.
    """

    value: float
    doubt: str = ""


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
        raise UserError(f"{run.calibration}: damaged; hw1 validate {run.path} writes it anew") from None


def choose_temperature(requested: RequestedTemperature, fitted: FittedTemperature | None) -> float:
    """Return the temperature that is asked for; say where the fitted one is doubtful.

    Raises:
        UserError: The fitted one is asked for, and there is none.
    """
    if requested != "fitted":
        return requested
    if fitted is None:
        raise UserError("--temperature fitted: none was fitted for these weights; hw1 validate RUN_DIR does, with --checkpoint as here")
    if fitted.doubt:
        say(f"--temperature fitted: {fitted.value:.3f} is doubtful: {fitted.doubt}")
    return fitted.value
