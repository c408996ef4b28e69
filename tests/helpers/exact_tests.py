"""Exact tests in whole numbers, as an independent truth."""

import math


def exact_p(only_one: int, only_other: int) -> float:
    """Twice the smaller tail of the binomial with 1/2, counted in whole numbers."""
    total = only_one + only_other
    tail = sum(math.comb(total, k) for k in range(min(only_one, only_other) + 1))
    return min(1.0, 2 * tail / 2**total)
