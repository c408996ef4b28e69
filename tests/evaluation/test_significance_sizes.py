"""Power and sample sizes against printed examples (source beside each), formulas, brute force and simulations."""

import math

import numpy as np
import pytest
from helpers.exact_tests import exact_p
from scipy import stats

from hw1.evaluation.power import images_needed, images_range, mcnemar_power, paired_t_power, seeds_needed, seeds_range, std_interval
from hw1.evaluation.significance import ALPHA


def test_t_power_is_the_printed_example():
    """Dalgaard, section 8.3: power.t.test(delta=10, sd=10*sqrt(2), power=0.85, type="paired") gives n = 19.96892."""
    assert paired_t_power(19, 10, 10 * math.sqrt(2)) < 0.85 < paired_t_power(20, 10, 10 * math.sqrt(2))
    assert paired_t_power(20, 10, 10 * math.sqrt(2)) == pytest.approx(0.85, abs=2e-3)


def test_seeds_needed_is_the_printed_example():
    """UCLA, Power analysis for paired-sample t-test: mean 5, sd 5, power 0.8 gives n = 9.93785 pairs (R package pwr)."""
    assert seeds_needed(5, 5) == 10
    assert seeds_needed(-5, 5) == 10


def test_t_power_is_statsmodels_and_a_simulation():
    from statsmodels.stats.power import TTestPower

    for num, effect, alpha in [(2, 3.0, 0.05), (3, 1.0, 0.05), (11, 0.9, 0.0125), (100, 0.2, 0.05), (1000, 0.001, 0.05), (4, 40.0, 0.05)]:
        assert paired_t_power(num, effect * 0.01, 0.01, alpha) == pytest.approx(TTestPower().power(effect, num, alpha), abs=1e-6)
    rows = np.random.default_rng(8).normal(0.012, 0.01, (1500, 5))
    found = np.mean(stats.ttest_1samp(rows, 0, axis=1).pvalue < ALPHA)
    assert paired_t_power(5, 0.012, 0.01) == pytest.approx(found, abs=0.045)


def test_seeds_needed_at_its_bounds():
    assert seeds_needed(0.0, 0.01) is None
    assert seeds_needed(0.0001, 0.01) is None
    assert seeds_needed(0.5, 1e-4) == 2
    assert seeds_needed(0.01, 0.01, ALPHA / 4) > seeds_needed(0.01, 0.01)
    for bad in [(0.01, 0.0), (float("nan"), 0.01), (0.01, float("nan"))]:
        with pytest.raises(ValueError, match="std > 0"):
            seeds_needed(*bad)


@pytest.mark.parametrize(
    ("num", "discordance", "difference"), [(12, 0.5, 0.4), (25, 0.3, -0.1), (30, 0.2, 0.2), (5, 0.9, 0.9), (20, 1.0, 0.5)]
)
def test_mcnemar_power_is_the_sum_over_all_outcomes(num, discordance, difference):
    only_with, only_without = (discordance + difference) / 2, (discordance - difference) / 2
    power = 0.0
    for b in range(num + 1):
        for c in range(num + 1 - b):
            if exact_p(b, c) < ALPHA:
                ways = math.comb(num, b) * math.comb(num - b, c)
                power += ways * only_without**b * only_with**c * max(0.0, 1 - discordance) ** (num - b - c)
    assert mcnemar_power(num, discordance, difference) == pytest.approx(power, abs=1e-7)


@pytest.mark.parametrize(("discordance", "difference"), [(0.5, 0.4), (0.1, 0.02), (0.08, 0.013), (0.2, -0.05), (0.05, 0.05)])
def test_images_needed_is_near_connors_formula(discordance, difference):
    """Connor 1987, Biometrics 43:207-211, for the test with normal approximation; the exact one needs somewhat more."""
    z_alpha, z_power = 1.959964, 0.841621
    root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - difference**2)
    approximate = (root / difference) ** 2
    found = images_needed(discordance, difference)
    assert approximate <= found <= 1.1 * approximate + 4 / discordance
    assert mcnemar_power(found, discordance, difference) == pytest.approx(0.8, abs=0.025)


def test_images_needed_at_its_bounds():
    assert images_needed(0.1, 0.0) is None
    assert images_needed(0.0, 0.0) is None
    assert images_needed(0.1, 0.0003) is None
    for bad in [(0.1, 0.2), (1.5, 0.2), (float("nan"), 0.1)]:
        with pytest.raises(ValueError, match="discordance"):
            images_needed(*bad)


def test_std_interval_covers_the_true_spread_in_95_of_100_samples():
    rows = np.random.default_rng(4).normal(0.3, 2.0, (4000, 5))
    covered = [low <= 2.0 <= high for low, high in (std_interval(std, 5) for std in rows.std(axis=1, ddof=1))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_std_interval_is_the_tables():
    """Printed chi-square quantiles of 4 degrees of freedom: 0.484 (2.5%) and 11.143 (97.5%)."""
    assert std_interval(1.0, 5) == pytest.approx((math.sqrt(4 / 11.143), math.sqrt(4 / 0.484)), abs=2e-3)


def test_seeds_range_holds_the_seeds_of_every_spread_within():
    low, high = seeds_range(0.01, 0.01, 5)
    assert (low, high) == tuple(seeds_needed(0.01, 0.01 * math.sqrt(4 / quantile)) for quantile in (11.143, 0.484))
    assert low < seeds_needed(0.01, 0.01) < high
    narrow = seeds_range(0.01, 0.01, 50)
    assert low < narrow.low < narrow.high < high
    assert seeds_range(0.001, 0.01, 3) == (seeds_needed(0.001, std_interval(0.01, 3)[0]), None)
    assert seeds_range(0.01, 0.01, 5, ALPHA / 4).low > low


def test_images_range_holds_the_images_of_every_disagreement_within():
    wilson = stats.binomtest(40, 300).proportion_ci(method="wilson")
    found = images_range(40, 300, 0.03)
    assert found == (images_needed(wilson.low, 0.03), images_needed(wilson.high, 0.03))
    assert found.low < images_needed(40 / 300, 0.03) < found.high
    assert images_range(12, 300, 12 / 300).low == images_needed(0.04, 0.04), "a difference is never more than the disagreement"
    assert images_range(40, 300, 0.0) == (None, None)
