"""Compare two variants, and state the result in one sentence: better, worse, or no significant difference. No files, no torch.

A variant is better or worse if the paired t test over seeds, adjusted by Holm over all given pairs, has p < 0.05. Fewer than `MIN_SEEDS`
seeds get no verdict and are in no family of tests. The bootstrap over images and McNemar's test of each seed qualify the sentence.
Sentences state points (hundredths of accuracy); the dataclasses hold fractions (0-1), as `hw1.evaluation.significance` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.power import MAX_IMAGES, MAX_SEEDS, POWER, SizeRange, images_range, seeds_range
from hw1.evaluation.significance import ALPHA, Interval, McNemar, TInterval, bootstrap_difference, holm, mcnemar_exact, paired_t
from hw1.report.points import format_p, format_points

MIN_SEEDS = 3
"""Fewest seeds for a verdict: the t interval of two reaches 13 times as far as either of the two, whatever the variants."""

Outcome = Literal["better", "worse", "no significant difference", "needs three seeds"]


@dataclass(frozen=True)
class Comparison:
    """One pair of variants, compared on the same images.

    Attributes:
        num_images: Number of images.
        over_seeds: Difference with its t interval over seeds, cut at -1 and 1.
        over_images: Difference with its bootstrap interval over images.
        mcnemar: McNemar's test of each seed, never of several together.
        images_needed: How many images McNemar's test of one run of each may need for a power of 80% at this difference, over the interval
            of the mean discordance measured here.
    """

    num_images: int
    over_seeds: TInterval
    over_images: Interval
    mcnemar: tuple[McNemar, ...]
    images_needed: SizeRange


@dataclass(frozen=True)
class Verdict:
    """The result for the variant with, compared with the one without.

    Attributes:
        outcome: The result.
        sentence: The result in words.
        comparison: The numbers.
        p_adjusted: p-value after Holm's adjustment over `num_tests` pairs; None if the pair was not tested.
        num_tests: Number of pairs that were tested.
        seeds_needed: How many seeds a difference of this size may need for a power of 80%, over the interval of the measured spread, at
            the level that Holm requires of the smallest p (0.05 / num_tests); None if the difference is significant, 0 or not tested.
    """

    outcome: Outcome
    sentence: str
    comparison: Comparison
    p_adjusted: float | None
    num_tests: int
    seeds_needed: SizeRange | None


def compare(correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_]) -> Comparison:
    """Compare two variants by their predictions.

    Args:
        correct_without: Where the runs without are right, bool [S, N]; row s is a seed, column i an image.
        correct_with: The same for the runs with.

    Raises:
        ValueError: The arrays have other types or unequal shapes, or there is no seed or image.
    """
    over_images = bootstrap_difference(correct_without, correct_with)  # first, because it checks the arrays
    mcnemar = [mcnemar_exact(without, with_) for without, with_ in zip(correct_without, correct_with, strict=True)]
    return summarize_tests(correct_with.shape[1], mcnemar, over_images)


def summarize_tests(num_images: int, mcnemar: Sequence[McNemar], over_images: Interval) -> Comparison:
    """Return the comparison whose seeds have these McNemar tests on `num_images` images."""
    over_seeds = paired_t([(test.only_with - test.only_without) / num_images for test in mcnemar], limit=1.0)
    discordant = round(sum(test.only_with + test.only_without for test in mcnemar) / len(mcnemar))
    needed = images_range(discordant, num_images, over_seeds.mean)
    return Comparison(num_images, over_seeds, over_images, tuple(mcnemar), needed)


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Return a verdict per comparison, in order; give all pairs of a report at once, as Holm's adjustment is over those given."""
    adjusted = holm([comparison.over_seeds.p if comparison.over_seeds.n >= MIN_SEEDS else None for comparison in comparisons])
    num_tests = sum(p is not None for p in adjusted)
    return [_verdict(comparison, p, num_tests) for comparison, p in zip(comparisons, adjusted, strict=True)]


def _verdict(comparison: Comparison, p_adjusted: float | None, num_tests: int) -> Verdict:
    over_seeds = comparison.over_seeds
    if over_seeds.n < MIN_SEEDS:
        return Verdict("needs three seeds", _few_seeds_sentence(comparison), comparison, None, num_tests, None)
    if p_adjusted is None or over_seeds.p is None or over_seeds.std is None:
        return Verdict("no significant difference", _no_spread_sentence(comparison), comparison, None, num_tests, None)
    mean, low, high = format_points(over_seeds.mean, over_seeds.low, over_seeds.high)
    head = f"{mean} points (95% interval {low} to {high}, {over_seeds.n} seeds)"
    if p_adjusted < ALPHA:
        outcome: Outcome = "better" if over_seeds.mean > 0 else "worse"
        return Verdict(outcome, f"{head}: {outcome}.{_image_caveat(comparison)}", comparison, p_adjusted, num_tests, None)
    sentence = f"{head}: no significant difference"
    if over_seeds.p < ALPHA:
        p_values = f"{_name_p(over_seeds.p)} alone, {_name_p(p_adjusted)} after Holm's correction"
        sentence += f" as one of {num_tests} pairs tested together ({p_values})"
    if not over_seeds.mean:
        return Verdict("no significant difference", f"{sentence}.", comparison, p_adjusted, num_tests, None)
    needed = seeds_range(over_seeds.mean, over_seeds.std, over_seeds.n, ALPHA / num_tests)
    holms = f" ({ALPHA}/{num_tests} by Holm)" if num_tests > 1 else ""
    sentence += (
        f". A difference of this size may need {format_range(needed, MAX_SEEDS)} seeds for a power of {POWER} at the level {ALPHA}{holms}: "
        f"{over_seeds.n} seeds tell the spread only roughly."
    )
    return Verdict("no significant difference", sentence, comparison, p_adjusted, num_tests, needed)


def format_range(needed: SizeRange, limit: int) -> str:
    """Return a range of sizes in words with at most two significant digits each; an end that is None is `more than <limit>`."""
    low, high = (f"more than {limit:,}" if end is None else f"{round(end, min(0, 2 - len(str(end)))):,}" for end in needed)
    return low if low == high else f"{low} to {high}"


def _image_caveat(comparison: Comparison) -> str:
    """Return the caveat of a difference that seeds confirm but that other images may not; empty if there is none."""
    low, high = comparison.over_images.low, comparison.over_images.high
    if low is None or high is None or low > 0 or high < 0:
        return ""
    least, most = format_points(low, high)
    return f" This holds for these {comparison.num_images} images; for others of their kind it is {least} to {most} points."


def _few_seeds_sentence(comparison: Comparison) -> str:
    (mean,) = format_points(comparison.over_seeds.mean)
    num_seeds = comparison.over_seeds.n
    head = f"{mean} points ({num_seeds} seed{'s' * (num_seeds > 1)}): no verdict, which needs three seeds."
    if num_seeds > 1:
        return head
    (test,) = comparison.mcnemar
    if not test.only_with + test.only_without:
        return f"{head} Both runs are right on the same images."
    images = f"on these {comparison.num_images} images (McNemar {_name_p(test.p)})"
    if test.p < ALPHA:
        return f"{head} The two runs themselves differ {images}."
    sentence = f"{head} The two runs themselves have no significant difference {images}"
    if not comparison.over_seeds.mean:
        return f"{sentence}."
    needed = format_range(comparison.images_needed, MAX_IMAGES)
    return f"{sentence}; one of this size may need {needed} images for a power of {POWER} at the level {ALPHA}."


def _no_spread_sentence(comparison: Comparison) -> str:
    (mean,) = format_points(comparison.over_seeds.mean)
    head = f"{mean} points in each of {comparison.over_seeds.n} seeds: no significant difference"
    if comparison.over_seeds.mean:
        return f"{head}, as seeds without any spread give no interval; more seeds or images would show one."
    same = all(not test.only_with + test.only_without for test in comparison.mcnemar)
    return f"{head}; both are right on the same images." if same else f"{head}."


def _name_p(p: float) -> str:
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
