"""Statistical power of the paired t test and of McNemar's test, and the sample sizes that a power needs. NumPy and SciPy; no torch.

Conventions as in `hw1.evaluation.significance`; sample sizes aim at a power of `POWER`.
"""

import math
from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from scipy import stats

from hw1.evaluation.significance import ALPHA, EQUAL_TOLERANCE, proportion_interval

POWER = 0.8
MAX_SEEDS = 1_000
MAX_IMAGES = 1_000_000


class SizeRange(NamedTuple):
    """The fewest and the most seeds or images that may be needed; None where the largest size that is tried is too small."""

    low: int | None
    high: int | None


def paired_t_power(num_seeds: int, mean: float, std: float, alpha: float = ALPHA) -> float:
    """Return the probability (0-1) that a two-sided paired t test rejects the null hypothesis.

    By the noncentral t distribution (Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter 2).

    Args:
        num_seeds: Number of seeds, at least 2.
        mean: True mean difference.
        std: True standard deviation of the differences over seeds, above 0.
        alpha: Level of the test.

    Raises:
        ValueError: An argument is outside its range.
    """
    if num_seeds < 2 or not std > 0 or not np.isfinite([mean, std]).all():
        raise ValueError(f"power needs 2 seeds, a finite mean and std > 0, got {num_seeds}, {mean}, {std}")
    freedom, shift = num_seeds - 1, abs(mean) / std * np.sqrt(num_seeds)
    critical = stats.t.isf(alpha / 2, freedom)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.sf(critical, freedom, -shift))


def seeds_needed(mean: float, std: float, alpha: float = ALPHA) -> int | None:
    """Return the fewest seeds (>= 2) for which `paired_t_power` reaches `POWER`; arguments as there.

    Those of a few seeds are far from the true ones: see `seeds_range`.

    Returns:
        The number of seeds; None if `MAX_SEEDS` are too few, as always where `mean` is 0.
    """
    if paired_t_power(MAX_SEEDS, mean, std, alpha) < POWER:
        return None
    return 2 + bisect_left(range(2, MAX_SEEDS), POWER, key=lambda num: paired_t_power(num, mean, std, alpha))


def std_interval(std: float, num_seeds: int) -> tuple[float, float]:
    """Return the interval of a true standard deviation that covers 1 - `ALPHA`, for normal values (chi-square).

    Args:
        std: Standard deviation of a sample, with n - 1.
        num_seeds: Size of the sample, at least 2.
    """
    freedom = num_seeds - 1
    low, high = (std * math.sqrt(freedom / float(stats.chi2.ppf(tail, freedom))) for tail in (1 - ALPHA / 2, ALPHA / 2))
    return low, high


def seeds_range(mean: float, std: float, num_seeds: int, alpha: float = ALPHA) -> SizeRange:
    """Return the seeds that a true difference of this `mean` may need, over the `std_interval` of the spread of `num_seeds` seeds.

    Arguments as for `seeds_needed` and `std_interval`.
    """
    return SizeRange(*(seeds_needed(mean, end, alpha) for end in std_interval(std, num_seeds)))


def mcnemar_power(num_images: int, discordance: float, difference: float) -> float:
    """Return the probability (0-1) that McNemar's exact test of two runs has p < ALPHA.

    The mean over the binomial number of discordant images of the test's power at that number (Duffy 1984, "Asymptotic and exact power for
    the McNemar test and its analogue with R controls per case").

    Args:
        num_images: Number of images, at least 1.
        discordance: True fraction of images on which only one run is right, above 0.
        difference: True difference of accuracy, at most `discordance` in size.

    Raises:
        ValueError: An argument is outside its range.
    """
    if num_images < 1 or not (abs(difference) <= discordance + EQUAL_TOLERANCE and 0 < discordance <= 1):
        raise ValueError(f"power needs images and |difference| <= discordance in 0-1, got {num_images}, {difference}, {discordance}")
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], num_images, discordance)
    counts = np.arange(low, high + 1)
    limit = stats.binom.ppf(ALPHA / 2, counts, 0.5)  # p < ALPHA where the smaller side has at most this many images
    limit -= stats.binom.cdf(limit, counts, 0.5) > ALPHA / 2
    favoured = min(1.0, (1 + abs(difference) / discordance) / 2)
    power = stats.binom.cdf(limit, counts, favoured) + stats.binom.sf(counts - limit - 1, counts, favoured)
    return float(stats.binom.pmf(counts, num_images, discordance) @ power)


def images_needed(discordance: float, difference: float) -> int | None:
    """Return about how many images `mcnemar_power` needs to reach `POWER`; arguments as there.

    "About", because the power rises with the number of images in saw teeth of a few percent.

    Returns:
        The number of images; None if `difference` is 0 or `MAX_IMAGES` are too few.
    """
    if difference == 0 or mcnemar_power(MAX_IMAGES, discordance, difference) < POWER:
        return None
    return 1 + bisect_left(range(1, MAX_IMAGES), POWER, key=lambda num: mcnemar_power(num, discordance, difference))


def images_range(discordant: int, num_images: int, difference: float) -> SizeRange:
    """Return the images that a true difference of this size may need, over Wilson's interval of the discordance.

    Args:
        discordant: Images of `num_images` on which only one of two runs is right.
        num_images: At least 1.
        difference: True difference of accuracy.
    """
    ends = (max(end, abs(difference)) for end in proportion_interval(discordant, num_images))
    return SizeRange(*(images_needed(discordance, difference) for discordance in ends))
