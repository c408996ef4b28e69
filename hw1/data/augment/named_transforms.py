"""Build the steps of `aug.transforms`, transforms of albumentations and policies of timm by name, and try them on noise."""

import difflib
import inspect
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hw1.config.recipe import AugConfig
from hw1.data.augment.timm_policy import TimmPolicy, is_timm_policy
from hw1.errors import UserError
from hw1.utils.text import first_line

Step: TypeAlias = Any
"""A transform (`A.BasicTransform`) or a composition (`A.BaseCompose`); albumentations has no types."""
POLICY = "policy"
"""The word for the recipe's crop, flip, rotation and jitter."""
IN_ONE_PLACE = {"Compose": "Sequential", "ReplayCompose": "Sequential"}  # what holds a whole pipeline, and what to take inside of one
NEEDS_CODE = ("Lambda", "TextImage")  # functions, and texts beside the images
NEAR = 0.6  # least similarity of a name that is named as the nearest


@cache
def transform_classes() -> dict[str, type[Step]]:
    """Return albumentations' transforms and compositions that a recipe can name, by name."""
    bases = (A.BasicTransform, A.BaseCompose, A.DualTransform, A.ImageOnlyTransform, A.Transform3D)
    everything = inspect.getmembers(A, lambda item: inspect.isclass(item) and issubclass(item, A.BasicTransform | A.BaseCompose))
    return {name: item for name, item in everything if item not in bases and name not in IN_ONE_PLACE}


def is_for_volumes(name: str) -> bool:
    """Return whether a transform works on volumes only."""
    return name.endswith("3D") or issubclass(transform_classes()[name], A.Transform3D)


def arguments_of(kind: type[Step]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a transform by name, with their defaults."""
    return {name: item for name, item in inspect.signature(kind).parameters.items() if item.kind is item.POSITIONAL_OR_KEYWORD}


def build_named(step: str | Mapping[str, Any], aug: AugConfig) -> Step:
    """Build one step of the list other than `policy`.

    Args:
        step: `Name`, `{Name: arguments}`, or one of timm's policies (`rand-m9-mstd0.5`). Compositions take `transforms`: a list of steps.
        aug: The recipe's section `aug`.

    Raises:
        UserError: There is no such transform, it does not take these arguments, or it cannot work on single images.
    """
    if isinstance(step, str) and is_timm_policy(step):
        return TimmPolicy(step, aug)
    name, arguments = _split(step)
    kind = transform_classes().get(name)
    if kind is None:
        raise UserError(f"{name}: {_why_unknown(name)}")
    known = arguments_of(kind)
    for argument in arguments:
        if argument not in known:
            raise UserError(f"{name}: unknown argument {argument!r}; {_nearest(argument, known)}")
    if issubclass(kind, A.BaseCompose):
        arguments = _with_steps(name, arguments, known, aug)
    missing = [each for each, item in known.items() if item.default is item.empty and each not in arguments]
    if missing:
        raise UserError(f"{name}: needs {' and '.join(missing)}")
    if name in NEEDS_CODE or is_for_volumes(name):
        raise UserError(f"{name}: needs {'code or texts' if name in NEEDS_CODE else 'volumes'}; a recipe's steps work on single images")
    transform = _construct(name, kind, {key: _constant(value) for key, value in arguments.items()})
    if getattr(transform, "targets_as_params", None):
        wanted = ", ".join(transform.targets_as_params)
        raise UserError(f"{name}: needs more than the image ({wanted}); a recipe's steps work on single images")
    return transform


def _split(step: object) -> tuple[str, dict[str, Any]]:
    if isinstance(step, str):
        return step, {}
    if not isinstance(step, Mapping) or len(step) != 1:
        raise UserError(f"a step is Name or {{Name: {{arguments}}}}, not {step!r}")
    [(name, arguments)] = step.items()
    if isinstance(arguments, list | tuple) and isinstance(name, str):
        arguments = {"transforms": arguments}
    if not isinstance(arguments, Mapping | None) or not isinstance(name, str):
        raise UserError(f"{name}: arguments are a section (names with values), not {arguments!r}")
    return name, dict(arguments or {})


def _with_steps(name: str, arguments: dict[str, Any], known: Mapping[str, Any], aug: AugConfig) -> dict[str, Any]:
    """Build the steps inside of a composition."""
    steps = arguments.get("transforms")
    if "transforms" not in known or not isinstance(steps, list | tuple) or not steps:
        raise UserError(f"{name}: needs transforms, a list of steps")
    if POLICY in steps:
        raise UserError(f"{name}: {POLICY} stands in the list itself, not inside of another step")
    try:
        return {**arguments, "transforms": [build_named(step, aug) for step in steps]}
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from None


def _construct(name: str, kind: type[Step], arguments: dict[str, Any]) -> Step:
    strict = {"strict": True} if "InitSchema" in vars(kind) else {}  # else a wrong value becomes the default, with a warning
    try:
        if not 0 <= arguments.get("p", 0.5) <= 1:  # which compositions do not check
            raise UserError(f"{name}: p: must be between 0 and 1, got {arguments['p']!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to use another transform
            return kind(**arguments, **strict)
    except UserError:
        raise
    except Exception as error:  # whatever its checks raise
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            first = cause.errors(include_url=False)[0]
            reason = first["msg"].removeprefix("Value error, ").rstrip(".")
            if first["loc"]:
                reason = f"{first['loc'][0]}: {reason}, got {first['input']!r}"
        else:
            reason = first_line(error)
        raise UserError(f"{name}: {reason}") from None


def _constant(value: Any) -> Any:
    """Return the number of one of OpenCV's constants that stands as text (`INTER_AREA`, `BORDER_REFLECT_101`); lists become tuples."""
    if isinstance(value, str) and value.removeprefix("cv2.").startswith(("INTER_", "BORDER_")):
        return getattr(cv2, value.removeprefix("cv2."), value)
    return (
        tuple(map(_constant, value))
        if isinstance(value, list) and not any(isinstance(item, A.BasicTransform | A.BaseCompose) for item in value)
        else value
    )


def _why_unknown(name: str) -> str:
    if name in IN_ONE_PLACE:
        return f"holds a whole pipeline; inside of one take {IN_ONE_PLACE[name]}"
    return f"no such transform of albumentations {A.__version__}, and no policy of timm; {_nearest(name, [*transform_classes(), POLICY])}"


def _nearest(name: str, known: Iterator[str] | Sequence[str] | Mapping[str, Any]) -> str:
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=NEAR)
    return f"nearest: {by_lower[close[0]]}" if close else f"there are: {', '.join(sorted(by_lower.values())[:12])} ..."


def try_step(name: str, step: Step, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply a step, and each step inside of it, to an image: always (p = 1), and return the result.

    Raises:
        UserError: It fails, or it does not give uint8 [H, W, 3].
    """
    for inner in step.transforms if isinstance(step, A.BaseCompose) else ():
        try_step(f"{name}: {type(inner).__name__}", inner, image)
    probability, step.p = step.p, 1.0
    try:
        pipeline = A.Compose([step])
        pipeline.set_random_state(np.random.default_rng(0), random.Random(0))
        result = pipeline(image=image)["image"]
    except Exception as error:  # whatever it meets
        raise UserError(f"{name}: fails on an image of {image.shape[0]} x {image.shape[1]} pixels: {first_line(error)}") from None
    finally:
        step.p = probability
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.ndim != 3 or result.shape[2] != 3:
        kind = f"{result.dtype} {list(result.shape)}" if hasattr(result, "dtype") else type(result).__name__
        raise UserError(f"{name}: gives {kind}; a step keeps uint8 [H, W, 3] (normalisation is aug.mean and aug.std)")
    return result
