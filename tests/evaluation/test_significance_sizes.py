"""Power, sample sizes and published accuracies against printed examples (source beside each), formulas, brute force and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from hw1.evaluation.power import images_needed, mcnemar_power, paired_t_power, seeds_needed
from hw1.evaluation.significance import ALPHA, published_range


def exact_p(only_one: int, only_other: int) -> float:
    """Twice the smaller tail of the binomial with 1/2, counted in whole numbers."""
    total = only_one + only_other
    tail = sum(math.comb(total, k) for k in range(min(only_one, only_other) + 1))
    return min(1.0, 2 * tail / 2**total)


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


# Published accuracies


def test_newcombe_interval_is_the_printed_example():
    """Fagerland, Lydersen & Laake 2015, Stat Methods Med Res 24:224-254: 7/34 and 1/34, Newcombe hybrid score 0.019 to 0.34."""
    found = published_range(1 / 34, 7 / 34, 34).interval
    assert found.low == pytest.approx(0.019, abs=5e-4)
    assert found.high == pytest.approx(0.34, abs=5e-3)


def test_newcombe_interval_is_wilsons_limits_squared_and_added():
    def wilson(p: float, n: int) -> tuple[float, float]:
        z = 1.959964
        centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)

    for without, with_ in [(0.8740, 0.8531), (0.8542, 0.9042), (0.97, 1.0)]:
        (low_0, high_0), (low_1, high_1) = wilson(without, 300), wilson(with_, 300)
        low = with_ - without - math.hypot(with_ - low_1, high_0 - without)
        high = with_ - without + math.hypot(high_1 - with_, without - low_0)
        found = published_range(without, with_, 300).interval
        assert (found.mean, found.low, found.high) == pytest.approx((with_ - without, low, high), abs=1e-6)


def test_published_bounds_by_hand():
    """262 and 256 of 300: 6 one way at best; by chance 262 * 44 / 300 = 38.4 and 256 * 38 / 300 = 32.4 are right in one run only."""
    found = published_range(0.8740, 0.8531, 300)
    assert (found.count_without, found.count_with) == (262, 256)
    assert found.p_best == pytest.approx(2 / 2**6)
    assert found.disagreements_independent == 38 + 32
    assert found.p_independent == pytest.approx(exact_p(38, 32))
    assert found.most_disagreements == 6  # 7 to 1 has p = 0.07
    assert found.smallest_best == pytest.approx(6 / 300)  # 2 / 2^5 is 0.0625


def test_published_smallest_and_most_are_where_p_crosses_5_percent():
    found = published_range(0.8542, 0.9042, 300)  # 256 and 271
    fewer = (found.most_disagreements - 15) // 2
    assert exact_p(fewer, fewer + 15) < ALPHA <= exact_p(fewer + 1, fewer + 16)
    step = round(found.smallest_independent * 300)
    for images, below in [(step, True), (step - 1, False)]:
        only_without = round(256 * (300 - 256 - images) / 300)
        assert (exact_p(only_without, only_without + images) < ALPHA) is below


def test_published_independent_errors_are_what_a_simulation_gives():
    rng = np.random.default_rng(9)
    without, with_ = np.zeros((2, 300), dtype=bool)
    without[:256] = with_[:271] = True
    counts = [np.sum(rng.permutation(without) != rng.permutation(with_)) for _ in range(2000)]
    assert published_range(0.8542, 0.9042, 300).disagreements_independent == pytest.approx(np.mean(counts), abs=1)


def test_published_direction_only_turns_the_sign():
    up, down = published_range(0.8531, 0.8740, 300), published_range(0.8740, 0.8531, 300)
    assert (up.p_best, up.p_independent, up.most_disagreements) == (down.p_best, down.p_independent, down.most_disagreements)
    assert (up.interval.low, up.interval.high) == pytest.approx((-down.interval.high, -down.interval.low))


def test_published_at_the_edges():
    equal = published_range(0.9, 0.9, 300)
    assert (equal.p_best, equal.p_independent, equal.most_disagreements) == (1, 1, None)
    few = published_range(0.25, 1.0, 4)
    assert (few.smallest_best, few.smallest_independent, few.most_disagreements) == (None, None, None)
    assert published_range(0.0, 1.0, 300).p_best == pytest.approx(2 / 2**300)
    for bad in [(float("nan"), 0.9, 300), (None, 0.9, 300), (0.9, 91.0, 300), (-0.1, 0.5, 300), (0.5, 0.5, 0)]:
        with pytest.raises(ValueError, match="accuracies"):
            published_range(*bad)
