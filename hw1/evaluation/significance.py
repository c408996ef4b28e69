"""Compare two variants: intervals and tests. NumPy, SciPy and statsmodels; no files, no torch.

Everywhere `with` and `without` are the two variants of a pair, a difference is `with` minus `without`, and accuracies, differences and
intervals are fractions (0-1, differences -1 to 1). S seeds were trained of each variant, and each run was evaluated on the same N images.
Tests are two-sided at `ALPHA`, intervals cover 1 - `ALPHA`. What cannot be estimated is None, never 0 or NaN. Power and sample sizes are
in `hw1.evaluation.power`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
EQUAL_TOLERANCE = 1e-9
"""Differences of accuracies closer than this are equal: one image in a million is 1e-6, noise of float64 is 1e-16."""
BOOTSTRAP_BATCH = 4_000_000
"""Images drawn at a time: bounds the memory of the bootstrap to about 64 MB."""


@dataclass(frozen=True)
class Interval:
    """A difference and its interval; `low` and `high` are None where there is nothing to estimate them from."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TInterval(Interval):
    """`Interval` over `n` seeds, with the two-sided `p` of the paired t test and the standard deviation of the differences."""

    p: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class McNemar:
    """Numbers of images on which only one of two runs is right, and the p-value of McNemar's exact test."""

    only_without: int
    only_with: int
    p: float


def proportion_interval(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's score interval for `count` of `total` >= 1 samples.

    It covers which images were drawn, for this one trained model (Wilson 1927, "Probable inference, the law of succession, and
    statistical inference").
    """
    interval = stats.binomtest(count, total).proportion_ci(1 - ALPHA, method="wilson")
    return float(interval.low), float(interval.high)


def paired_t(differences: Sequence[float] | NDArray[Any], limit: float = math.inf) -> TInterval:
    """Compute the mean difference over seeds, its t interval and the paired t test (Student 1908, "The probable error of a mean").

    The interval covers what another seed would change (weights of new layers, order, augmentation) for these images, as if the
    differences were normal; it says nothing about other images or data.

    Args:
        differences: One per seed, [S], S >= 1.
        limit: The largest difference that is possible, 1 for accuracies; the interval ends at -limit and limit.

    Returns:
        One seed has no spread: `low`, `high`, `p` and `std` are None. Several seeds with equal differences have `std` 0 and the rest
        None: accuracies move in steps of one image, so small samples tie by accident, and p = 0 would be false certainty.

    Raises:
        ValueError: A difference is NaN, infinite or None, or there is none.
    """
    values = _require_finite(differences, "differences")
    mean = float(values.mean())
    mean = mean if abs(mean) > EQUAL_TOLERANCE else 0.0
    if len(values) == 1:
        return TInterval(mean, None, None, None, None, 1)
    if np.ptp(values) <= EQUAL_TOLERANCE:
        return TInterval(mean, None, None, None, 0.0, len(values))
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(1 - ALPHA)
    low, high = max(float(low), -limit), min(float(high), limit)
    return TInterval(mean, low, high, float(test.pvalue), float(values.std(ddof=1)), len(values))


def mcnemar_exact(correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_]) -> McNemar:
    """Compute McNemar's exact test of two runs on the same images; without any disagreement p is 1.

    It compares these two trained models, not the recipes behind them, and covers which images were drawn (McNemar 1947; exact as in
    Fagerland et al. 2013, section "Exact conditional").

    Args:
        correct_without: Where the run without is right, bool [N].
        correct_with: Where the run with is right, bool [N].

    Raises:
        ValueError: The arrays are not bool [N]. Several seeds are refused too: their predictions for an image are not independent, so
            counts of several runs must not be added.
    """
    without, with_ = _require_correct(correct_without, correct_with, num_dims=1)
    only_without, only_with = int((without & ~with_).sum()), int((with_ & ~without).sum())
    return McNemar(only_without, only_with, mcnemar_p(only_without, only_with))


def bootstrap_difference(
    correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Compute the difference of accuracy, averaged over seeds, with a percentile bootstrap interval over images.

    Images are drawn with replacement together with the predictions of all seeds and both variants, so the pairing stays (Efron &
    Tibshirani 1993, chapter 13). The interval covers which images of this kind happen to be in the set, for these trained models; it does
    not cover further seeds, nor images of another kind.

    Args:
        correct_without: Where the runs without are right, bool [S, N]; row s belongs to seed s.
        correct_with: The same for the runs with.
        resamples: Number of bootstrap samples.
        seed: Seed of the random draws.

    Returns:
        `low` and `high` are None where the difference is the same on every image: resampling cannot show what the set does not hold.

    Raises:
        ValueError: The arrays are not bool [S, N].
    """
    without, with_ = _require_correct(correct_without, correct_with, num_dims=2)
    per_image = with_.mean(axis=0) - without.mean(axis=0)
    mean = float(per_image.mean())
    if np.ptp(per_image) <= EQUAL_TOLERANCE:
        return Interval(mean, None, None)
    interval = stats.bootstrap(
        (per_image,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, BOOTSTRAP_BATCH // len(per_image)),
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values by Holm 1979, "A simple sequentially rejective multiple test procedure".

    The probability that any true null hypothesis has an adjusted p below ALPHA is at most ALPHA, however the pairs depend on each other.

    Args:
        p_values: None where no test was made; it does not count.

    Returns:
        The adjusted p-values in the same order, None where there was None.

    Raises:
        ValueError: A p-value is NaN or outside 0-1.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    values = _require_finite(tested, "p-values")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"p-values must be 0-1, got {values.tolist()}")
    adjusted = iter(multipletests(values, method="holm")[1].tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def newcombe_interval(count_without: int, count_with: int, num_images: int) -> tuple[float, float]:
    """Return the interval of a difference of two accuracies on `num_images` >= 1 images each, for two independent samples.

    Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10. It ignores the pairing, so it is too
    wide for runs that share hard images.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep  # slow to import

    low, high = confint_proportions_2indep(count_with, num_images, count_without, num_images, method="newcomb", compare="diff", alpha=ALPHA)
    return float(low), float(high)


def mcnemar_p(only_one: int, only_other: int) -> float:
    """Return McNemar's exact p from the numbers of images on which only one of two runs is right."""
    total = only_one + only_other
    return float(stats.binomtest(only_one, total).pvalue) if total else 1.0


def _require_finite(values: Sequence[float] | NDArray[Any], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)  # None becomes NaN
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one or more numbers, got {array.tolist()}")
    return array


def _require_correct(*arrays: NDArray[np.bool_], num_dims: int) -> tuple[NDArray[np.bool_], ...]:
    first = arrays[0]
    if any(a.dtype != np.bool_ or a.ndim != num_dims or a.shape != first.shape for a in arrays) or not first.size:
        shapes = " and ".join(f"{a.dtype} {list(a.shape)}" for a in arrays)
        raise ValueError(f"expected two bool arrays of one shape, {'[N]' if num_dims == 1 else '[S, N]'}, got {shapes}")
    return arrays
