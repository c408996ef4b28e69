"""What published accuracies allow, against brute force over batches, formulas and simulations."""

import math
from itertools import product

import numpy as np
import pytest
from helpers.exact_tests import exact_p

from hw1.ablate.variants import NUM_PUBLISHED_IMAGES, REPORT_PAIRS, VARIANTS
from hw1.evaluation.significance import ALPHA, newcombe_interval
from hw1.report.published import allowed_counts, list_numbers, published_verdict

ACCURACIES = sorted({run.accuracy for variant in VARIANTS.values() for run in variant.published})


def mean_of_batches(is_right: np.ndarray) -> float:
    """Cut 300 images into batches of 32, the last of 12, and average the accuracies of the batches."""
    return float(np.mean([batch.mean() for batch in np.split(is_right, range(32, 300, 32))]))


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_counts_are_those_that_batches_of_images_give(accuracy):
    expected = set()
    for full, last in product(range(289), range(13)):
        is_right = np.zeros(300)
        is_right[:full] = is_right[288 : 288 + last] = 1
        if f"{mean_of_batches(is_right):.4f}" == f"{accuracy:.4f}":
            expected.add((full, last, full + last))
    assert {(count.full, count.last, count.total) for count in allowed_counts(accuracy, min_last=0)} == expected
    likely = [count.total for count in allowed_counts(accuracy)]
    assert likely == sorted(total for _, last, total in expected if last >= 8)
    assert len({total % 5 for *_, total in expected}) == 1, "known modulo 5"


def test_every_published_accuracy_is_a_multiple_of_one_960th():
    assert len(ACCURACIES) == 7
    assert all(abs(accuracy * 960 - round(accuracy * 960)) < 960 * 0.5e-4 for accuracy in ACCURACIES)
    assert [count.total for count in allowed_counts(0.8781)] == [261, 266]
    assert [count.total for count in allowed_counts(0.8781, min_last=0)] == [261, 266, 271, 276, 281]


def test_which_images_of_the_full_batches_are_right_does_not_matter():
    rng = np.random.default_rng(3)
    for count in allowed_counts(0.9042):
        is_right = np.concatenate([rng.permutation(288) < count.full, rng.permutation(12) < count.last])
        assert mean_of_batches(is_right) == pytest.approx(count.batch_mean)
        assert f"{count.batch_mean:.4f}" == "0.9042"


def differences(name: str) -> dict[int, tuple[list[float], list[float]]]:
    """Differences of a pair of the report, in images, with their p-values in the best case and for independent errors."""
    [pair] = [pair for pair in REPORT_PAIRS if pair.name == name]
    found: dict[int, tuple[list[float], list[float]]] = {}
    for counts in published_verdict(pair.published_without.accuracy, pair.published_with.accuracy).counts:
        best, independent = found.setdefault(counts.difference, ([], []))
        best.append(counts.p_best)
        independent.append(counts.p_independent)
    return found


def test_published_differences_are_these_ranges():
    assert {name: list(differences(name)) for name in ("mixup", "cbam", "dropout", "random_mixup")} == {
        "mixup": [-3, 2],
        "cbam": [-10, -5],
        "dropout": [5],
        "random_mixup": [11, 16, 21],
    }
    independent = {gap: [round(p, 3) for p in values] for gap, (_, values) in differences("random_mixup").items()}
    assert independent == {11: [0.200], 16: [0.064, 0.048], 21: [0.01]}
    assert [round(values[0], 2) for _, values in differences("cbam").values()] == [0.29, 0.63]
    assert differences("dropout")[5][0] == [0.0625]


def test_p_values_are_exact():
    for counts in published_verdict(0.8740, 0.8531).counts:
        gap = abs(counts.difference)
        assert counts.p_best == pytest.approx(exact_p(0, gap))
        only_without = round(counts.without * (300 - counts.with_) / 300)
        only_with = round(counts.with_ * (300 - counts.without) / 300)
        assert only_without - only_with == gap
        assert counts.p_independent == pytest.approx(exact_p(only_without, only_with))


def test_independent_errors_are_what_a_simulation_gives():
    rng = np.random.default_rng(9)
    counts = published_verdict(0.8542, 0.9042).counts[0]
    without, with_ = (np.arange(300) < total for total in (counts.without, counts.with_))
    disagreements = [np.sum(rng.permutation(without) != rng.permutation(with_)) for _ in range(2000)]
    fewer = round((np.mean(disagreements) - counts.difference) / 2)
    assert counts.p_independent == pytest.approx(exact_p(fewer, fewer + counts.difference), abs=0.02)


def test_newcombe_interval_is_the_printed_example():
    """Fagerland, Lydersen & Laake 2015, Stat Methods Med Res 24:224-254: 7/34 and 1/34, Newcombe hybrid score 0.019 to 0.34."""
    low, high = newcombe_interval(1, 7, 34)
    assert low == pytest.approx(0.019, abs=5e-4)
    assert high == pytest.approx(0.34, abs=5e-3)


def test_interval_is_the_hull_of_wilsons_limits_squared_and_added():
    def wilson(p: float, n: int) -> tuple[float, float]:
        z = 1.959964
        centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)

    ends = []
    for without, with_ in product((255 / 300, 260 / 300), (271 / 300, 276 / 300)):
        (low_0, high_0), (low_1, high_1) = wilson(without, 300), wilson(with_, 300)
        ends.append(with_ - without - math.hypot(with_ - low_1, high_0 - without))
        ends.append(with_ - without + math.hypot(high_1 - with_, without - low_0))
    interval = published_verdict(0.8542, 0.9042).interval
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.05, min(ends), max(ends)), abs=1e-6)


@pytest.mark.parametrize(
    ("without", "with_", "claim", "sentence"),
    [
        (
            0.8781,
            0.8740,
            "none",
            "-0.4 points, which is -3 or +2 of 300 images (one run each): no significant difference. McNemar's p is 0.80 (-3), 0.90 (+2) "
            "if the errors of the two runs are independent, 0.25 (-3), 0.50 (+2) if all disagreements go one way. One run of each "
            "cannot speak for the recipe.",
        ),
        (
            0.8740,
            0.8531,
            "open",
            "-2.1 points, which is -10 or -5 of 300 images (one run each): whether the two runs differ is open. McNemar's p is 0.29 (-10), "
            "0.63 (-5) if the errors of the two runs are independent, 0.002 (-10), 0.062 (-5) if all disagreements go one way. "
            "One run of each cannot speak for the recipe.",
        ),
        (
            0.8552,
            0.8708,
            "none",
            "+1.6 points, which is +5 of 300 images (one run each): no significant difference. McNemar's p is 0.64 if the errors of the "
            "two runs are independent, 0.062 if all disagreements go one way. One run of each cannot speak for the recipe.",
        ),
        (
            0.8542,
            0.9042,
            "open",
            "+5.0 points, which is +11, +16 or +21 of 300 images (one run each): whether the two runs differ is open. McNemar's p is 0.20 "
            "(+11), 0.048-0.064 (+16), 0.010 (+21) if the errors of the two runs are independent, < 0.001 "
            "if all disagreements go one way. One run of each cannot speak for the recipe.",
        ),
    ],
)
def test_sentences_of_the_report(without, with_, claim, sentence):
    found = published_verdict(without, with_)
    assert (found.claim, found.sentence) == (claim, sentence)


def test_runs_that_differ_whichever_counts_are_true():
    found = published_verdict(0.7, 0.9)
    assert found.claim == "these two runs"
    assert max(counts.p_independent for counts in found.counts) < ALPHA
    swapped = published_verdict(0.9, 0.7)
    assert (swapped.interval.low, swapped.interval.high) == pytest.approx((-found.interval.high, -found.interval.low))


def test_an_accuracy_that_no_batches_give_is_refused():
    for bad in (0.8785, 1.2, -0.1, float("nan")):
        with pytest.raises(ValueError, match="no count of right images"):
            published_verdict(0.8781, bad)


def test_numbers_as_words():
    assert (list_numbers([3]), list_numbers([2, 1, 2]), list_numbers([0, -3, 5], signed=True)) == ("3", "1 or 2", "-3, 0 or +5")
    assert NUM_PUBLISHED_IMAGES == 300
