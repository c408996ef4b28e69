"""Two variants compared: intervals, tests, and how much would have to be run. NumPy, SciPy and statsmodels; no files, no torch.

Everywhere `with` and `without` are the two variants of a pair, a difference is `with` minus `without`, and accuracies, differences and
intervals are shares (0-1, differences -1 to 1). S seeds were trained of each variant, and each run was evaluated on the same N images.
Tests are two-sided at `ALPHA`, intervals have 1 - `ALPHA`, sample sizes aim at `POWER`. What cannot be estimated is None, never 0 or NaN.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
POWER = 0.8
MAX_SEEDS = 1_000
MAX_IMAGES = 1_000_000
SAME = 1e-9
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
    """Images on which only one of two runs is right, and the exact p that this split is chance."""

    only_without: int
    only_with: int
    p: float


@dataclass(frozen=True)
class PublishedRange:
    """What one run of each variant on N shared images can say when only their accuracies are known.

    `count_without`, `count_with`: images that were right, to the nearest one. `interval`: Newcombe's for two independent samples.
    `p_best`: McNemar's p if every disagreement goes one way. `p_independent`: McNemar's p if the two runs err independently, when about
    `disagreements_independent` images are right in one run only. Runs of one kind share hard images, so the truth is likely between.
    `most_disagreements`: the most images on which the runs may disagree for p < ALPHA at this difference; None if even the best case fails.
    `smallest_best`, `smallest_independent`: the smallest difference (a positive share) with p < ALPHA in these two cases, counted from
    the accuracy of the run without in the direction of the published difference; None if not even the largest one has it.
    """

    num_images: int
    count_without: int
    count_with: int
    interval: Interval
    p_best: float
    p_independent: float
    disagreements_independent: int
    most_disagreements: int | None
    smallest_best: float | None
    smallest_independent: float | None


def proportion_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's score interval for a share of `count` in `total` >= 1 samples (Wilson 1927, "Probable inference, the law of succession,
    and statistical inference"). It covers which images were drawn, for this one trained model.
    """
    interval = stats.binomtest(count, total).proportion_ci(1 - ALPHA, method="wilson")
    return float(interval.low), float(interval.high)


def paired_t(differences: Sequence[float] | NDArray[Any]) -> TInterval:
    """Mean difference over seeds, its t interval and paired t test (Student 1908, "The probable error of a mean").

    `differences` [S], one per seed, S >= 1; NaN or None raises `ValueError`. The interval covers what another seed would change (weights
    of new layers, order, augmentation) for these images, as if the differences were normal; it says nothing of other images or data.
    One seed has no spread: `low`, `high`, `p` and `std` are None. Several seeds with one and the same difference have `std` 0 and the
    rest None: accuracies move in steps of one image, so that small samples tie by accident, and p = 0 would be false certainty.
    """
    values = _finite(differences, "differences")
    mean = float(values.mean())
    mean = mean if abs(mean) > SAME else 0.0
    if len(values) == 1:
        return TInterval(mean, None, None, None, None, 1)
    if np.ptp(values) <= SAME:
        return TInterval(mean, None, None, None, 0.0, len(values))
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(1 - ALPHA)
    return TInterval(mean, float(low), float(high), float(test.pvalue), float(values.std(ddof=1)), len(values))


def mcnemar_exact(correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of two runs on the same images (McNemar 1947; exact as in Fagerland et al. 2013, section "Exact conditional").

    Both bool [N], True where the run is right; anything else raises `ValueError`, several seeds too: their answers to one image are not
    independent, so counts of several runs must not be added. It compares these two trained models, not the recipes behind them, and
    covers which images were drawn. Without any disagreement p is 1.
    """
    without, with_ = _correct(correct_without, correct_with, num_dims=1)
    only_without, only_with = int((without & ~with_).sum()), int((with_ & ~without).sum())
    return McNemar(only_without, only_with, _mcnemar_p(only_without, only_with))


def bootstrap_difference(
    correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Difference of accuracy, mean over seeds, with a percentile bootstrap interval over images (Efron & Tibshirani 1993, chapter 13).

    Both bool [S, N], row s of each from seed s. Images are drawn with replacement; an image brings its answers of all seeds and both
    variants, so the pairing stays. The interval covers which images of this kind happen to be in the set, for these trained models; it
    does not cover what further seeds would give, nor images of another kind. `low` and `high` are None where the difference is the same
    on every image, as without any disagreement: resampling cannot show what the set does not hold.
    """
    without, with_ = _correct(correct_without, correct_with, num_dims=2)
    per_image = with_.mean(axis=0) - without.mean(axis=0)
    mean = float(per_image.mean())
    if np.ptp(per_image) <= SAME:
        return Interval(mean, None, None)
    found = stats.bootstrap(
        (per_image,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, BOOTSTRAP_BATCH // len(per_image)),
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (Holm 1979, "A simple sequentially rejective multiple test procedure"), in the order given.

    Below ALPHA they are wrong about any pair at all with a chance of at most ALPHA, however the pairs depend on each other. None stays
    None and does not count: no test was made. A p outside 0-1 or NaN raises `ValueError`.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    values = _finite(tested, "p-values")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"p-values must be 0-1, got {values.tolist()}")
    adjusted = iter(multipletests(values, method="holm")[1].tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def paired_t_power(num_seeds: int, mean: float, std: float, alpha: float = ALPHA) -> float:
    """Chance (0-1) that a two-sided paired t test of `num_seeds` >= 2 finds a true `mean` difference with true `std` > 0 over seeds.

    By the noncentral t distribution (Cohen 1988, "Statistical power analysis for the behavioral sciences", chapter 2).
    """
    if num_seeds < 2 or not std > 0 or not np.isfinite([mean, std]).all():
        raise ValueError(f"power needs 2 seeds, a finite mean and std > 0, got {num_seeds}, {mean}, {std}")
    freedom, shift = num_seeds - 1, abs(mean) / std * np.sqrt(num_seeds)
    critical = stats.t.isf(alpha / 2, freedom)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.sf(critical, freedom, -shift))


def seeds_needed(mean: float, std: float, alpha: float = ALPHA) -> int | None:
    """Fewest seeds (>= 2) for a power of POWER if the true difference and spread are `mean` and `std` > 0.

    None if MAX_SEEDS are too few, as always where `mean` is 0. A rough guide: `mean` and `std` of a few seeds are far from the true ones.
    """
    if paired_t_power(MAX_SEEDS, mean, std, alpha) < POWER:
        return None
    return 2 + bisect_left(range(2, MAX_SEEDS), POWER, key=lambda num: paired_t_power(num, mean, std, alpha))


def mcnemar_power(num_images: int, discordance: float, difference: float) -> float:
    """Chance (0-1) that McNemar's exact test of two runs on `num_images` >= 1 images has p < ALPHA.

    `discordance` > 0: the true share of images on which one run only is right; `difference`: the true difference of accuracy, at most
    `discordance` in size. The mean over the binomial number of such images of the exact test's power at that number (Duffy 1984,
    "Asymptotic and exact power for the McNemar test and its analogue with R controls per case").
    """
    if num_images < 1 or not (abs(difference) <= discordance + SAME and 0 < discordance <= 1):
        raise ValueError(f"power needs images and |difference| <= discordance in 0-1, got {num_images}, {difference}, {discordance}")
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], num_images, discordance)
    counts = np.arange(low, high + 1)
    limit = stats.binom.ppf(ALPHA / 2, counts, 0.5)  # the larger side has p < ALPHA where the smaller is at most this
    limit -= stats.binom.cdf(limit, counts, 0.5) > ALPHA / 2
    favoured = min(1.0, (1 + abs(difference) / discordance) / 2)
    power = stats.binom.cdf(limit, counts, favoured) + stats.binom.sf(counts - limit - 1, counts, favoured)
    return float(stats.binom.pmf(counts, num_images, discordance) @ power)


def images_needed(discordance: float, difference: float) -> int | None:
    """About how many images McNemar's exact test needs for a power of POWER, to tell two single runs apart; arguments as above.

    None if `difference` is 0 or MAX_IMAGES are too few. Power rises with the images in saw teeth of a few percent, hence "about". A rough
    guide, as both arguments come from a sample.
    """
    if difference == 0 or mcnemar_power(MAX_IMAGES, discordance, difference) < POWER:
        return None
    return 1 + bisect_left(range(1, MAX_IMAGES), POWER, key=lambda num: mcnemar_power(num, discordance, difference))


def published_range(accuracy_without: float, accuracy_with: float, num_images: int) -> PublishedRange:
    """Bounds on what two published accuracies (0-1), of one run each on the same `num_images` >= 1 images, can say.

    Per-image answers are not published, so McNemar's test is only known to lie between `p_best` and, for runs that err on the same
    images at least as often as by chance, `p_independent`. It takes the nearest whole number of images; an accuracy that is a mean over
    batches of unequal size need not be one, and can be off by more than that. The interval (Newcombe 1998, "Interval estimation for the
    difference between independent proportions", method 10) ignores the pairing, so it is too wide for runs that share hard images.
    Raises `ValueError` for accuracies outside 0-1, NaN or None.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep  # slow to import

    accuracies = _finite([accuracy_without, accuracy_with], "accuracies")
    if accuracies.min() < 0 or accuracies.max() > 1 or num_images < 1:
        raise ValueError(f"accuracies must be 0-1 on at least 1 image, got {accuracies.tolist()} on {num_images}")
    without, with_ = (round(float(accuracy) * num_images) for accuracy in accuracies)
    up = accuracy_with >= accuracy_without
    gap, room = abs(with_ - without), num_images - without if up else without
    low, high = confint_proportions_2indep(
        accuracy_with * num_images, num_images, accuracy_without * num_images, num_images, method="newcomb", compare="diff", alpha=ALPHA
    )

    def less_frequent(other: int) -> int:
        """Images that only the worse run has right if errors are independent and the run with has `other` right."""
        return round(min(without, other) * (num_images - max(without, other)) / num_images)

    def independent(step: int) -> float:
        fewer = less_frequent(without + step if up else without - step)
        return _mcnemar_p(fewer, fewer + step)

    passing = list(takewhile(lambda fewer: _mcnemar_p(fewer, fewer + gap) < ALPHA, range((num_images - gap) // 2 + 1)))
    fewer = less_frequent(with_)
    smallest_best = _first(lambda step: _mcnemar_p(0, step) < ALPHA, room)
    smallest_independent = _first(lambda step: independent(step) < ALPHA, room)
    return PublishedRange(
        num_images=num_images,
        count_without=without,
        count_with=with_,
        interval=Interval(accuracy_with - accuracy_without, float(low), float(high)),
        p_best=_mcnemar_p(0, gap),
        p_independent=_mcnemar_p(fewer, fewer + gap),
        disagreements_independent=2 * fewer + gap,
        most_disagreements=2 * passing[-1] + gap if passing else None,
        smallest_best=None if smallest_best is None else smallest_best / num_images,
        smallest_independent=None if smallest_independent is None else smallest_independent / num_images,
    )


def _first(holds: Callable[[int], bool], last: int) -> int | None:
    return next((step for step in range(1, last + 1) if holds(step)), None)


def _mcnemar_p(only_one: int, only_other: int) -> float:
    total = only_one + only_other
    return float(stats.binomtest(only_one, total).pvalue) if total else 1.0


def _finite(values: Sequence[float] | NDArray[Any], what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)  # None becomes NaN
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{what} must be one or more numbers, got {array.tolist()}")
    return array


def _correct(*arrays: NDArray[np.bool_], num_dims: int) -> tuple[NDArray[np.bool_], ...]:
    first = arrays[0]
    if any(a.dtype != np.bool_ or a.ndim != num_dims or a.shape != first.shape for a in arrays) or not first.size:
        found = " and ".join(f"{a.dtype} {list(a.shape)}" for a in arrays)
        raise ValueError(f"expected two bool arrays of one shape, {'[N]' if num_dims == 1 else '[S, N]'}, got {found}")
    return arrays
