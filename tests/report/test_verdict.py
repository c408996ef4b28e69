"""Verdicts: the rule, and every sentence."""

import re

import numpy as np
import pytest
from scipy import stats

from hw1.evaluation.power import seeds_needed
from hw1.evaluation.significance import ALPHA
from hw1.report.verdict import MIN_SEEDS, Comparison, Verdict, compare, verdicts

SENTENCE = re.compile(r"[A-Z+\-0].*[^.]\.", re.DOTALL)


def pair(*splits: tuple[int, int], num_images: int = 651) -> Comparison:
    """One seed for each split (images right only without, only with); 500 images are right in both."""
    without = np.zeros((len(splits), num_images), dtype=bool)
    with_ = without.copy()
    for seed, (only_without, only_with) in enumerate(splits):
        without[seed, :only_without] = True
        with_[seed, only_without : only_without + only_with] = True
        without[seed, -500:] = with_[seed, -500:] = True
    return compare(without, with_)


def verdict(*splits: tuple[int, int]) -> Verdict:
    (found,) = verdicts([pair(*splits)])
    assert SENTENCE.fullmatch(found.sentence)
    return found


def test_comparison_keeps_seeds_apart():
    found = pair((10, 30), (20, 25), (5, 5))
    assert [(test.only_without, test.only_with) for test in found.mcnemar] == [(10, 30), (20, 25), (5, 5)]
    assert found.mcnemar[0].p == pytest.approx(stats.binomtest(10, 40).pvalue)
    assert (found.num_images, found.over_seeds.n) == (651, 3)
    assert found.over_seeds.mean == pytest.approx(25 / 3 / 651)
    assert found.over_images.mean == pytest.approx(found.over_seeds.mean)
    expected = stats.ttest_rel([30 / 651, 25 / 651, 5 / 651], [10 / 651, 20 / 651, 5 / 651]).pvalue
    assert found.over_seeds.p == pytest.approx(expected)


def test_better_and_worse():
    better = verdict((5, 35), (6, 40), (4, 36))  # 30, 34, 32 images: 32 +- 4.303 * 2 / sqrt(3)
    assert better.outcome == "better"
    assert better.sentence == "+4.9 points (95% interval +4.2 to +5.7, 3 seeds): better."
    assert (better.num_tests, better.seeds_needed) == (1, None)
    assert better.p_adjusted == better.comparison.over_seeds.p < ALPHA
    worse = verdict((35, 5), (40, 6), (36, 4))
    assert worse.outcome == "worse"
    assert worse.sentence == "-4.9 points (95% interval -5.7 to -4.2, 3 seeds): worse."


def test_difference_that_seeds_confirm_but_images_do_not_is_qualified():
    found = verdict((20, 25), (20, 26), (20, 25))
    assert found.outcome == "better"
    assert re.fullmatch(
        r"\+0\.8 points \(95% interval \+0\.6 to \+1\.0, 3 seeds\): better\. "
        r"This holds for these 651 images; for others of their kind it is -\d\.\d to \+\d\.\d points\.",
        found.sentence,
    )


def test_no_significant_difference_says_how_many_seeds_may_do():
    found = verdict((20, 25), (10, 30), (12, 15))
    assert found.outcome == "no significant difference"
    over_seeds = found.comparison.over_seeds
    ends = (over_seeds.std * np.sqrt(2 / stats.chi2.ppf(quantile, 2)) for quantile in (0.975, 0.025))
    low, high = (seeds_needed(over_seeds.mean, end) for end in ends)
    assert found.seeds_needed == (low, high)
    assert low < seeds_needed(over_seeds.mean, over_seeds.std) < high
    assert (low, round(high, -1)) == (5, 310)
    assert found.sentence == (
        "+1.4 points (95% interval -2.1 to +5.0, 3 seeds): no significant difference. A difference of this size may need 5 to 310 seeds "
        "for a power of 0.8 at the level 0.05: 3 seeds tell the spread only roughly."
    )


def test_equal_means_need_no_number_of_seeds():
    found = verdict((20, 25), (25, 20), (7, 7))
    assert found.sentence == "0.0 points (95% interval -1.9 to +1.9, 3 seeds): no significant difference."
    assert found.seeds_needed is None


def test_tiny_difference_may_need_more_seeds_than_anyone_has_and_does_not_look_like_zero():
    (found,) = verdicts([pair((30, 10), (10, 31), (10, 10), num_images=3000)])
    assert found.seeds_needed == (None, None)
    assert found.sentence == (
        "+0.01 points (95% interval -1.69 to +1.71, 3 seeds): no significant difference. A difference of this size may need more than "
        "1,000 seeds for a power of 0.8 at the level 0.05: 3 seeds tell the spread only roughly."
    )


def test_one_and_two_seeds_give_no_verdict():
    clear, unclear, equal, two = verdict((5, 40)), verdict((20, 26)), verdict((0, 0)), verdict((5, 40), (6, 39))
    head = "no verdict, which needs three seeds."
    assert clear.sentence == f"+5.4 points (1 seed): {head} The two runs themselves differ on these 651 images (McNemar p < 0.001)."
    assert re.fullmatch(
        r"\+0\.9 points \(1 seed\): " + re.escape(head) + r" The two runs themselves have no significant difference on these 651 images "
        r"\(McNemar p = 0\.46\); one of this size may need \d,\d00 to \d,\d00 images for a power of 0\.8 at the level 0\.05\.",
        unclear.sentence,
    )
    assert unclear.comparison.images_needed.low > 651
    assert equal.sentence == f"0.0 points (1 seed): {head} Both runs are right on the same images."
    assert verdict((7, 7)).sentence.endswith("have no significant difference on these 651 images (McNemar p = 1.00).")
    assert two.sentence == f"+5.2 points (2 seeds): {head}"
    for found in (clear, unclear, equal, two):
        assert (found.outcome, found.p_adjusted, found.num_tests, found.seeds_needed) == ("needs three seeds", None, 0, None)
    assert MIN_SEEDS == 3


def test_pairs_of_two_seeds_are_not_among_the_tests_that_holm_counts():
    few, many = pair((5, 40), (6, 38)), pair((5, 35), (6, 40), (4, 36))
    assert few.over_seeds.p < 0.05
    found = verdicts([few, many, few])
    assert [item.outcome for item in found] == ["needs three seeds", "better", "needs three seeds"]
    assert found[1].p_adjusted == many.over_seeds.p


def test_the_interval_of_a_difference_of_accuracies_ends_at_one():
    found = pair((0, 5), (100, 20), num_images=651)
    wide = stats.t.interval(0.95, 1, found.over_seeds.mean, stats.sem([5 / 651, -80 / 651]))
    assert wide[0] < -0.7
    tiny = compare(np.array([[True, False]] * 2), np.array([[True, True], [False, False]]))
    assert (tiny.over_seeds.low, tiny.over_seeds.high) == (-1.0, 1.0)


def test_seeds_without_spread_give_no_verdict():
    found = verdict((5, 25), (6, 26), (10, 30))
    assert (found.outcome, found.p_adjusted) == ("no significant difference", None)
    assert found.sentence == (
        "+3.1 points in each of 3 seeds: no significant difference, as seeds without any spread give no "
        "interval; more seeds or images would show one."
    )
    assert verdict((4, 4), (5, 5), (4, 4)).sentence == "0.0 points in each of 3 seeds: no significant difference."
    assert verdict((0, 0), (0, 0), (0, 0)).sentence == (
        "0.0 points in each of 3 seeds: no significant difference; both are right on the same images."
    )


def test_holm_counts_the_pairs_that_were_tested():
    borderline, null = pair((10, 20), (10, 24), (10, 16)), pair((10, 12), (14, 10), (9, 10))
    (alone,) = verdicts([borderline])
    assert (alone.outcome, alone.num_tests) == ("better", 1)
    together = verdicts([borderline, pair((5, 40)), null, null])
    assert [found.num_tests for found in together] == [3, 3, 3, 3]
    assert together[0].p_adjusted == pytest.approx(3 * alone.p_adjusted)
    assert together[0].outcome == "no significant difference"
    assert re.search(
        r"no significant difference as one of 3 pairs tested together \(p = 0\.0\d\d alone, p = 0\.1\d "
        r"after Holm's correction\)\. A difference of this size may need "
        r"\d+ to \d+ seeds for a power of 0\.8 at the level 0\.05 \(0\.05/3 by Holm\)",
        together[0].sentence,
    )
    assert together[0].seeds_needed.high > 3
    assert together[0].comparison is borderline
    assert verdicts([]) == []


def test_verdict_swaps_with_the_variants():
    swap = {
        "better": "worse",
        "worse": "better",
        "no significant difference": "no significant difference",
        "needs three seeds": "needs three seeds",
    }
    for splits in ([(5, 35), (6, 40), (4, 36)], [(10, 20), (10, 40), (12, 12)], [(5, 40)]):
        there, back = verdict(*splits), verdict(*((b, a) for a, b in splits))
        assert back.outcome == swap[there.outcome]
        assert back.seeds_needed == there.seeds_needed
        assert back.comparison.images_needed == there.comparison.images_needed


def test_compare_refuses_other_arrays():
    right = np.ones((3, 10), dtype=bool)
    for bad in [(right, right[:2]), (right[0], right[0]), (right.astype(float), right), (right[:, :0], right[:, :0])]:
        with pytest.raises(ValueError, match=r"two bool arrays of one shape, \[S, N\]"):
            compare(*bad)
