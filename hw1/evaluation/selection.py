"""How much the best of many is better than it is: the bias of choosing by a noisy score. NumPy and SciPy; no files, no torch."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import integrate, stats


def expected_maximum(num: int) -> float:
    """Return the expected maximum of `num` independent standard normal draws: 0 for one, 1.03 for five, 2.25 for fifty.

    It is the integral of x times the density of the maximum, num * pdf(x) * cdf(x)**(num - 1).

    Raises:
        ValueError: `num` is less than 1.
    """
    if num < 1:
        raise ValueError(f"at least one draw, got {num}")
    value, _ = integrate.quad(lambda x: x * num * stats.norm.pdf(x) * stats.norm.cdf(x) ** (num - 1), -10.0, 10.0, epsabs=1e-10)
    return float(value)


def pooled_std(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups, each about its own mean; None where no group has two values.

    Args:
        groups: For each configuration its scores over seeds.
    """
    squares = sum(float(np.sum((np.asarray(group) - np.mean(group)) ** 2)) for group in groups if len(group))
    freedom = sum(len(group) - 1 for group in groups if len(group))
    return math.sqrt(squares / freedom) if freedom else None
