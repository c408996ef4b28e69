"""Compare two variants, and state the result in one sentence: better, worse, or no significant difference. No files, no torch.

A variant is better or worse if the paired t test over seeds, adjusted by Holm over all given pairs, has p < 0.05; this needs at least two
seeds. The bootstrap over images and McNemar's test of each seed qualify the sentence. Sentences state points (hundredths of accuracy);
the dataclasses hold fractions (0-1), as `hw1.evaluation.significance` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hw1.evaluation.power import MAX_IMAGES, MAX_SEEDS, images_needed, seeds_needed
from hw1.evaluation.significance import (
    ALPHA,
    Interval,
    McNemar,
    PublishedRange,
    TInterval,
    bootstrap_difference,
    holm,
    mcnemar_exact,
    paired_t,
    published_range,
)
from hw1.report.points import format_points

Outcome = Literal["better", "worse", "no significant difference"]
Claim = Literal["none", "if they mostly agree", "these two runs"]

_ONE_RUN = "One run of each cannot speak for the recipe."


@dataclass(frozen=True)
class Comparison:
    """One pair of variants, compared on the same images.

    Attributes:
        num_images: Number of images.
        over_seeds: Difference with its t interval over seeds.
        over_images: Difference with its bootstrap interval over images.
        mcnemar: McNemar's test of each seed, never of several together.
        images_needed: About how many images McNemar's test of one run of each needs, at the mean discordance and difference measured here;
            None if there is no difference or a million are too few.
    """

    num_images: int
    over_seeds: TInterval
    over_images: Interval
    mcnemar: tuple[McNemar, ...]
    images_needed: int | None


@dataclass(frozen=True)
class Verdict:
    """The result for the variant with, compared with the one without.

    Attributes:
        outcome: The result.
        sentence: The result in words.
        comparison: The numbers.
        p_adjusted: p-value after Holm's adjustment over `num_tests` pairs; None without a t test.
        num_tests: Number of pairs that have a t test.
        seeds_needed: Seeds for a power of 80% at this difference and spread, at the level that Holm requires of the smallest p
            (0.05 / num_tests); None if the difference is significant, cannot be tested or needs more than 1,000.
    """

    outcome: Outcome
    sentence: str
    comparison: Comparison
    p_adjusted: float | None
    num_tests: int
    seeds_needed: int | None


@dataclass(frozen=True)
class PublishedVerdict:
    """What two published accuracies say about the two runs; about the recipes one run of each can say nothing.

    Attributes:
        claim: "none": no significant difference even in the best case; "if they mostly agree": only if the runs disagree on no more than
            `range.most_disagreements` images; "these two runs": they differ even if they err independently.
        sentence: The claim in words.
        range: The numbers.
    """

    claim: Claim
    sentence: str
    range: PublishedRange


def compare(correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_]) -> Comparison:
    """Compare two variants by their predictions.

    Args:
        correct_without: Where the runs without are right, bool [S, N]; row s is a seed, column i an image.
        correct_with: The same for the runs with.

    Raises:
        ValueError: The arrays have other types or unequal shapes, or there is no seed or image.
    """
    over_images = bootstrap_difference(correct_without, correct_with)  # first, because it checks the arrays
    num_seeds, num_images = correct_with.shape
    mcnemar = tuple(mcnemar_exact(correct_without[s], correct_with[s]) for s in range(num_seeds))
    over_seeds = paired_t([(test.only_with - test.only_without) / num_images for test in mcnemar])
    discordance = sum(test.only_with + test.only_without for test in mcnemar) / (num_seeds * num_images)
    return Comparison(num_images, over_seeds, over_images, mcnemar, images_needed(discordance, over_seeds.mean))


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Return a verdict per comparison, in order; give all pairs of a report at once, as Holm's adjustment is over those given."""
    adjusted = holm([comparison.over_seeds.p for comparison in comparisons])
    num_tests = sum(p is not None for p in adjusted)
    return [_verdict(comparison, p, num_tests) for comparison, p in zip(comparisons, adjusted, strict=True)]


def published_verdict(accuracy_without: float, accuracy_with: float, num_images: int) -> PublishedVerdict:
    """Return a verdict on two published accuracies (0-1) of one run each on the same `num_images` images.

    Raises:
        ValueError: An accuracy is outside 0-1, NaN or None.
    """
    bounds = published_range(accuracy_without, accuracy_with, num_images)
    gap = abs(bounds.count_with - bounds.count_without)
    (difference,) = format_points(bounds.interval.mean)
    count = f"about {gap} of {num_images} images" if gap else f"equal to the nearest of {num_images} images"
    head = f"{difference} points ({count}, one run each):"
    if bounds.most_disagreements is None:
        best = f", even if no other image is right in just one of the two runs ({_format_p(bounds.p_best)})" if gap else ""
        return PublishedVerdict("none", f"{head} no significant difference{best}; {_smallest_significant(bounds)}.", bounds)
    if bounds.p_independent < ALPHA:
        sentence = f"{head} these two runs differ, even if their errors are independent ({_format_p(bounds.p_independent)}). {_ONE_RUN}"
        return PublishedVerdict("these two runs", sentence, bounds)
    sentence = (
        f"{head} the two runs differ significantly only if no more than {bounds.most_disagreements} images are right in just one of them"
        f" ({_format_p(bounds.p_best)} at best); with independent errors it would be about {bounds.disagreements_independent}"
        f" ({_format_p(bounds.p_independent)}). {_ONE_RUN}"
    )
    return PublishedVerdict("if they mostly agree", sentence, bounds)


def _verdict(comparison: Comparison, p_adjusted: float | None, num_tests: int) -> Verdict:
    over_seeds = comparison.over_seeds
    if over_seeds.n == 1:
        return Verdict("no significant difference", _one_seed_sentence(comparison), comparison, None, num_tests, None)
    if p_adjusted is None or over_seeds.std is None:
        return Verdict("no significant difference", _no_spread_sentence(comparison), comparison, None, num_tests, None)
    mean, low, high = format_points(over_seeds.mean, over_seeds.low, over_seeds.high)
    head = f"{mean} points (95% interval {low} to {high}, {over_seeds.n} seeds)"
    if p_adjusted < ALPHA:
        outcome: Outcome = "better" if over_seeds.mean > 0 else "worse"
        return Verdict(outcome, f"{head}: {outcome}.{_image_caveat(comparison)}", comparison, p_adjusted, num_tests, None)
    needed = seeds_needed(over_seeds.mean, over_seeds.std, ALPHA / num_tests)
    if over_seeds.p is not None and over_seeds.p < ALPHA:
        p_values = f"{_format_p(over_seeds.p)} alone, {_format_p(p_adjusted)} after Holm's correction"
        size = f"as one of {num_tests} pairs tested together ({p_values})"
    else:
        size = "at this size"
    if needed is not None:
        size += f"; about {needed} seeds would be needed to detect a difference of this size"
    elif over_seeds.mean:
        size += f"; more than {MAX_SEEDS:,} seeds would be needed to detect a difference of this size"
    return Verdict("no significant difference", f"{head}: no significant difference {size}.", comparison, p_adjusted, num_tests, needed)


def _image_caveat(comparison: Comparison) -> str:
    """Return the caveat of a difference that seeds confirm but that other images may not; empty if there is none."""
    low, high = comparison.over_images.low, comparison.over_images.high
    if low is None or high is None or low > 0 or high < 0:
        return ""
    least, most = format_points(low, high)
    return f" This holds for these {comparison.num_images} images; for others of their kind it is {least} to {most} points."


def _one_seed_sentence(comparison: Comparison) -> str:
    (mean,) = format_points(comparison.over_seeds.mean)
    (test,) = comparison.mcnemar
    head = f"{mean} points (1 seed): no significant difference, as one seed cannot speak for the recipe."
    if not test.only_with + test.only_without:
        return f"{head} Both runs are right on the same images."
    if test.p < ALPHA:
        return f"{head} The two runs themselves differ on these {comparison.num_images} images (McNemar {_format_p(test.p)})."
    more = f"; {_format_images(comparison.images_needed)} images would be needed" if comparison.over_seeds.mean else ""
    return f"{head} Nor do the two runs differ on these {comparison.num_images} images (McNemar {_format_p(test.p)}){more}."


def _no_spread_sentence(comparison: Comparison) -> str:
    (mean,) = format_points(comparison.over_seeds.mean)
    head = f"{mean} points in each of {comparison.over_seeds.n} seeds: no significant difference"
    if comparison.over_seeds.mean:
        return f"{head}, as seeds without any spread give no interval; more seeds or images would show one."
    same = all(not test.only_with + test.only_without for test in comparison.mcnemar)
    return f"{head}; both are right on the same images." if same else f"{head}."


def _smallest_significant(bounds: PublishedRange) -> str:
    """Say how large the published difference would have to be."""
    if bounds.smallest_best is None:
        return f"no difference in this direction is large enough on {bounds.num_images} images"
    at_least, independent = bounds.smallest_best, bounds.smallest_independent
    text = f"at least {round(at_least * bounds.num_images)} images ({100 * at_least:.1f} points) would be needed"
    if independent is None:
        return text
    return f"{text}, and about {round(independent * bounds.num_images)} ({100 * independent:.1f} points) with independent errors"


def _format_p(p: float) -> str:
    """Format a p-value with two decimals, three below 0.1, so that it is clear on which side of 0.05 it is."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _format_images(count: int | None) -> str:
    """Format a number of images with two significant digits: more would be false precision."""
    return f"more than {MAX_IMAGES:,}" if count is None else f"about {round(count, 2 - len(str(count))):,}"
