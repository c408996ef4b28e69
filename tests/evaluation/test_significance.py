"""Statistics against printed examples (source beside each), formulas written out, brute force, statsmodels, and small simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from hw1.evaluation.significance import ALPHA, bootstrap_difference, holm, mcnemar_exact, paired_t, proportion_interval


def correct_runs(num_images: int, only_without: int, only_with: int, both: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two runs, bool [N], that disagree on the given numbers of images."""
    without, with_ = np.zeros((2, num_images), dtype=bool)
    without[:only_without] = True
    with_[only_without : only_without + only_with] = True
    shared = slice(only_without + only_with, only_without + only_with + both)
    without[shared] = with_[shared] = True
    return without, with_


# One share


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 7), (477, 651), (10, 10)])
def test_the_interval_of_a_share_solves_wilsons_equation(count, total):
    """Its ends are the shares p for which the observed one lies 1.96 standard errors (of p) away."""
    z = stats.norm.isf(ALPHA / 2)
    for end in proportion_interval(count, total):
        assert abs(count / total - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total), abs=1e-9)
    low, high = proportion_interval(count, total)
    assert 0 <= low <= count / total <= high <= 1
    assert low < high


# Paired t test


def test_paired_t_is_the_printed_example():
    """Dalgaard, Introductory Statistics with R, 2nd ed., section 4.6: energy intake of 11 women, pre minus post."""
    found = paired_t([1350, 1250, 1755, 1020, 745, 1835, 1540, 1540, 725, 1330, 1435])
    assert found.mean == pytest.approx(1320.455, abs=5e-4)
    assert (found.low, found.high) == pytest.approx((1074.072, 1566.838), abs=5e-4)
    assert found.p == pytest.approx(3.059e-07, rel=5e-4)
    assert found.mean / (found.std / math.sqrt(found.n)) == pytest.approx(11.9414, abs=5e-5)


def test_paired_t_of_two_seeds_by_hand():
    """With one degree of freedom t is Cauchy: p = 1 - 2/pi atan(t), and the 97.5% quantile is tan(0.475 pi) = 12.706."""
    found = paired_t([0.01, 0.03])
    half_width = math.tan(0.475 * math.pi) * 0.01
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02 - half_width, 0.02 + half_width))
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))
    mirrored = paired_t([-0.01, -0.03])
    assert (mirrored.low, mirrored.high, mirrored.p) == pytest.approx((-found.high, -found.low, found.p))
    cut = paired_t([0.01, 0.3], limit=1.0)
    assert (cut.low, cut.high, cut.p) == (-1.0, 1.0, paired_t([0.01, 0.3]).p), "no difference of accuracies is beyond 1"


def test_paired_t_does_not_invent_a_spread():
    one = paired_t([0.01])
    assert (one.mean, one.low, one.high, one.p, one.std, one.n) == (0.01, None, None, None, None, 1)
    differences = [0.9 - 0.8, 0.8 - 0.7, 0.3 - 0.2]  # 0.1 with three roundings: taken as they are, p would be 1e-16
    assert len(set(differences)) > 1
    same = paired_t(differences)
    assert (same.low, same.high, same.p, same.std, same.n) == (None, None, None, 0.0, 3)
    assert same.mean == pytest.approx(0.1)
    assert paired_t([1 / 651, 1 / 651, -2 / 651]).mean == 0


@pytest.mark.parametrize("bad", [[], [0.1, float("nan")], [0.1, None], [float("inf"), 0.1], [[0.1, 0.2]]])
def test_paired_t_refuses_what_is_no_list_of_numbers(bad):
    with pytest.raises(ValueError, match="differences must be one or more numbers"):
        paired_t(bad)


def test_t_interval_of_three_seeds_covers_the_true_difference_in_95_percent():
    rng = np.random.default_rng(0)
    found = [paired_t(row) for row in rng.normal(0.01, 0.008, (600, 3))]
    assert np.mean([t.low <= 0.01 <= t.high for t in found]) == pytest.approx(0.95, abs=0.03)  # 3.4 standard errors


# McNemar


@pytest.mark.parametrize(
    ("only_without", "only_with", "p", "tolerance"),
    [
        (1, 7, 2 * (1 + 8) / 2**8, 1e-12),  # Fagerland, Lydersen & Laake 2013, BMC Med Res Methodol 13:91, table 1, formula in supplement
        (3, 13, 2 * (1 + 16 + 120 + 560) / 2**16, 1e-12),  # SAS blog "The DO Loop" 2022-04-18, students before and after
        (35, 28, 0.45, 5e-5),  # S. Aoki, Gunma University, McNemar test in R: binom.test(c(35, 28)) prints p-value = 0.45
    ],
)
def test_mcnemar_is_the_printed_example(only_without, only_with, p, tolerance):
    found = mcnemar_exact(*correct_runs(100, only_without, only_with, both=20))
    assert (found.only_without, found.only_with) == (only_without, only_with)
    assert found.p == pytest.approx(p, abs=tolerance)


def test_mcnemar_is_statsmodels_and_does_not_depend_on_images_on_which_both_agree():
    from statsmodels.stats.contingency_tables import mcnemar

    for only_without, only_with in [(0, 1), (0, 5), (0, 6), (4, 4), (2, 9), (12, 3), (40, 61)]:
        found = mcnemar_exact(*correct_runs(200, only_without, only_with, both=50)).p
        assert found == pytest.approx(mcnemar([[50, only_without], [only_with, 49]], exact=True).pvalue, rel=1e-9)
        assert found == pytest.approx(mcnemar_exact(*correct_runs(150, only_with, only_without)).p, rel=1e-12)


def test_mcnemar_without_disagreement_finds_nothing():
    assert mcnemar_exact(*correct_runs(30, 0, 0, both=20)).p == 1


def test_mcnemar_refuses_several_seeds_and_other_arrays():
    without, with_ = correct_runs(10, 1, 2)
    for bad in [(without[None], with_[None]), (without, with_[:-1]), (without.astype(int), with_), (without[:0], with_[:0])]:
        with pytest.raises(ValueError, match=r"two bool arrays of one shape, \[N\]"):
            mcnemar_exact(*bad)


# Bootstrap over images


@pytest.mark.parametrize(("num_images", "wins"), [(300, 12), (651, 40), (50, 45)])
def test_bootstrap_has_the_quantiles_of_its_exact_distribution(num_images, wins):
    """With wins only, the resampled difference is binomial(N, wins / N) / N."""
    without, with_ = correct_runs(num_images, 0, wins)
    found = bootstrap_difference(without[None], with_[None])
    exact = stats.binom.ppf([0.025, 0.975], num_images, wins / num_images) / num_images
    assert found.mean == pytest.approx(wins / num_images)
    assert (found.low, found.high) == pytest.approx(exact, abs=1.01 / num_images)  # quantiles of 10,000 draws: one image to and fro


def sampled(rng: np.random.Generator, num_seeds: int, num_images: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw which predictions of two variants are right: images differ in difficulty, seeds in luck; the true mean difference is `gain`."""
    chance = rng.uniform(0.5, 0.95, num_images)
    draws = rng.random((2, num_seeds, num_images))
    return draws[0] < chance, draws[1] < chance + gain


def test_bootstrap_is_near_the_normal_interval_of_the_per_image_differences():
    without, with_ = sampled(np.random.default_rng(1), 3, 2000, 0.04)
    per_image = with_.mean(0) - without.mean(0)
    half_width = 1.96 * per_image.std() / math.sqrt(2000)
    found = bootstrap_difference(without, with_)
    assert found.mean == pytest.approx(with_.mean() - without.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half_width, found.mean + half_width), abs=0.05 * half_width)


def test_bootstrap_keeps_the_seeds_of_an_image_together():
    """The same run three times is one run: drawing its predictions one by one would narrow the interval by sqrt(3)."""
    without, with_ = sampled(np.random.default_rng(2), 1, 400, 0.03)
    once, thrice = bootstrap_difference(without, with_), bootstrap_difference(without.repeat(3, 0), with_.repeat(3, 0))
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high), abs=1e-12)


def test_bootstrap_keeps_the_variants_of_an_image_together():
    without, _ = sampled(np.random.default_rng(3), 1, 400, 0.0)
    with_ = without.copy()
    with_[0, np.flatnonzero(~without[0])[:8]] = True
    paired = bootstrap_difference(without, with_)
    shuffled = bootstrap_difference(without, with_[:, np.random.default_rng(0).permutation(400)])
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)


def test_bootstrap_interval_covers_the_true_difference():
    rng = np.random.default_rng(4)
    found = [bootstrap_difference(*sampled(rng, 2, 200, 0.05), resamples=400) for _ in range(300)]
    assert 0.91 <= np.mean([i.low <= 0.05 <= i.high for i in found]) <= 0.98


def test_bootstrap_repeats_itself_and_owns_up_to_knowing_nothing():
    without, with_ = sampled(np.random.default_rng(5), 2, 300, 0.05)
    assert bootstrap_difference(without, with_) == bootstrap_difference(without, with_)
    same = bootstrap_difference(without, without)
    assert (same.mean, same.low, same.high) == (0.0, None, None)
    with pytest.raises(ValueError, match=r"\[S, N\]"):
        bootstrap_difference(without[0], with_[0])


# Holm


def test_holm_is_the_printed_example():
    """stdlib.io, documentation of @stdlib/stats/padjust, method holm."""
    assert holm([0.319, 0.201, 0.4, 0.374, 0.113]) == pytest.approx([0.957, 0.804, 0.957, 0.957, 0.565])


def test_holm_rejects_what_the_stepwise_procedure_rejects():
    """Holm 1979: from the smallest p up, stop at the first that is not below alpha / (tests left)."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        p_values = rng.uniform(0, 0.06, rng.integers(1, 7)).tolist()
        rejected = set()
        for rank, index in enumerate(np.argsort(p_values)):
            if p_values[index] >= ALPHA / (len(p_values) - rank):
                break
            rejected.add(int(index))
        assert {i for i, p in enumerate(holm(p_values)) if p < ALPHA} == rejected


def test_holm_leaves_out_pairs_without_a_test():
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([None]) == [None]
    assert holm([]) == []
    for bad in ([0.1, float("nan")], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="p-values"):
            holm(bad)


def test_report_of_three_equal_pairs_finds_a_difference_in_at_most_5_percent():
    """The rule as it is used: right and wrong predictions, three seeds, t over seeds, Holm over pairs; no pair has a true difference."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(200):
        pairs = [sampled(rng, 3, 300, 0.0) for _ in range(3)]
        p_values = [paired_t(with_.mean(1) - without.mean(1)).p for without, with_ in pairs]
        if any(p is not None and p < ALPHA for p in p_values):  # Holm's are never smaller, and each call takes 50 ms
            false += any(p is not None and p < ALPHA for p in holm(p_values))
    assert false / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
