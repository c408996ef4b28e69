"""Verdicts: the rule, every sentence, and the published pairs of the report."""

import re

import numpy as np
import pytest
from scipy import stats

from hw1.evaluation.significance import ALPHA
from hw1.report.verdict import Comparison, Verdict, compare, published_verdict, verdicts

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


def test_no_significant_difference_says_how_many_seeds_would_do():
    found = verdict((20, 25), (10, 30), (12, 15))
    assert found.outcome == "no significant difference"
    needed = found.seeds_needed
    assert found.sentence == (
        "+1.4 points (95% interval -2.1 to +5.0, 3 seeds): no significant difference at this size; "
        f"about {needed} seeds would be needed to detect a difference of this size."
    )
    assert needed > 3


def test_equal_means_need_no_number_of_seeds():
    found = verdict((20, 25), (25, 20))
    assert found.sentence == "0.0 points (95% interval -9.8 to +9.8, 2 seeds): no significant difference at this size."
    assert found.seeds_needed is None


def test_tiny_difference_needs_more_seeds_than_anyone_has_and_does_not_look_like_zero():
    (found,) = verdicts([pair((30, 10), (10, 31), num_images=3000)])
    assert found.seeds_needed is None
    assert found.sentence == (
        "+0.02 points (95% interval -8.67 to +8.70, 2 seeds): no significant difference at this size; "
        "more than 1,000 seeds would be needed to detect a difference of this size."
    )


def test_one_seed_cannot_speak_for_the_recipe():
    clear, unclear, equal = verdict((5, 40)), verdict((20, 26)), verdict((0, 0))
    head = "no significant difference, as one seed cannot speak for the recipe."
    assert clear.sentence == f"+5.4 points (1 seed): {head} The two runs themselves differ on these 651 images (McNemar p < 0.001)."
    assert re.fullmatch(
        r"\+0\.9 points \(1 seed\): " + re.escape(head) + r" Nor do the two runs differ on these 651 images "
        r"\(McNemar p = 0\.46\); about \d,\d00 images would be needed\.",
        unclear.sentence,
    )
    assert unclear.comparison.images_needed > 651
    assert equal.sentence == f"0.0 points (1 seed): {head} Both runs are right on the same images."
    balanced = verdict((7, 7)).sentence
    assert balanced.endswith("Nor do the two runs differ on these 651 images (McNemar p = 1.00).")
    for found in (clear, unclear, equal):
        assert (found.outcome, found.p_adjusted, found.num_tests, found.seeds_needed) == ("no significant difference", None, 0, None)


def test_seeds_without_spread_give_no_verdict():
    found = verdict((5, 25), (6, 26), (10, 30))
    assert (found.outcome, found.p_adjusted) == ("no significant difference", None)
    assert found.sentence == (
        "+3.1 points in each of 3 seeds: no significant difference, as seeds without any spread give no "
        "interval; more seeds or images would show one."
    )
    assert verdict((4, 4), (5, 5)).sentence == "0.0 points in each of 2 seeds: no significant difference."
    assert (
        verdict((0, 0), (0, 0)).sentence == "0.0 points in each of 2 seeds: no significant difference; both are right on the same images."
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
        r"after Holm's correction\); about \d+ seeds",
        together[0].sentence,
    )
    assert together[0].seeds_needed > 3
    assert together[0].comparison is borderline
    assert verdicts([]) == []


def test_seeds_needed_is_always_more_than_there_were():
    rng = np.random.default_rng(0)
    comparisons = [pair(*rng.integers(2, 40, (num_seeds, 2)).tolist()) for num_seeds in (2, 2, 3, 3, 4, 5) for _ in range(2)]
    for family in (comparisons, comparisons[:1], comparisons[4:6]):
        for found in verdicts(family):
            if found.outcome == "no significant difference" and found.seeds_needed is not None:
                assert found.seeds_needed > found.comparison.over_seeds.n


def test_verdict_swaps_with_the_variants():
    swap = {"better": "worse", "worse": "better", "no significant difference": "no significant difference"}
    for splits in ([(5, 35), (6, 40), (4, 36)], [(10, 20), (10, 40)], [(5, 40)]):
        there, back = verdict(*splits), verdict(*((b, a) for a, b in splits))
        assert back.outcome == swap[there.outcome]
        assert back.seeds_needed == there.seeds_needed
        assert back.comparison.images_needed == there.comparison.images_needed


def test_compare_refuses_other_arrays():
    right = np.ones((3, 10), dtype=bool)
    for bad in [(right, right[:2]), (right[0], right[0]), (right.astype(float), right), (right[:, :0], right[:, :0])]:
        with pytest.raises(ValueError, match=r"two bool arrays of one shape, \[S, N\]"):
            compare(*bad)


@pytest.mark.parametrize(
    ("without", "with_", "claim", "sentence"),
    [
        (
            0.8781,
            0.8740,
            "none",
            "-0.4 points (about 1 of 300 images, one run each): no significant difference, even if no other "
            "image is right in just one of the two "
            "runs (p = 1.00); at least 6 images (2.0 points) would be needed, and about 19 (6.3 points) with independent errors.",
        ),
        (
            0.8740,
            0.8531,
            "if they mostly agree",
            "-2.1 points (about 6 of 300 images, one run each): the two runs differ significantly only if no more than 6 images are right "
            "in just one of them (p = 0.031 at best); with independent errors it would be about 70 (p = 0.55). "
            "One run of each cannot speak for the recipe.",
        ),
        (
            0.8552,
            0.8708,
            "none",
            "+1.6 points (about 4 of 300 images, one run each): no significant difference, even if no other "
            "image is right in just one of the two "
            "runs (p = 0.12); at least 6 images (2.0 points) would be needed, and about 17 (5.7 points) with independent errors.",
        ),
        (
            0.8542,
            0.9042,
            "if they mostly agree",
            "+5.0 points (about 15 of 300 images, one run each): the two runs differ significantly only if no more than 51 images are "
            "right in just one of them (p < 0.001 at best); with independent errors it would be about 65 (p = 0.082). "
            "One run of each cannot speak for the recipe.",
        ),
        (
            0.70,
            0.90,
            "these two runs",
            "+20.0 points (about 60 of 300 images, one run each): these two runs differ, even if their errors are independent (p < 0.001). "
            "One run of each cannot speak for the recipe.",
        ),
        (
            0.50,
            0.50,
            "none",
            "0.0 points (equal to the nearest of 300 images, one run each): no significant difference; at "
            "least 6 images (2.0 points) would be "
            "needed, and about 25 (8.3 points) with independent errors.",
        ),
    ],
)
def test_published_pairs(without, with_, claim, sentence):
    found = published_verdict(without, with_, 300)
    assert (found.claim, found.sentence) == (claim, sentence)


def test_published_on_too_few_images():
    assert published_verdict(0.25, 1.0, 4).sentence == (
        "+75.0 points (about 3 of 4 images, one run each): no significant difference, even if no other image "
        "is right in just one of the two runs "
        "(p = 0.25); no difference in this direction is large enough on 4 images."
    )
    with pytest.raises(ValueError, match="accuracies"):
        published_verdict(0.9, float("nan"), 300)
