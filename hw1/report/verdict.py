"""From the answers of two variants to one plain sentence each: better, worse, or no significant difference. No files, no torch.

The rule: a variant is better or worse where the paired t test over seeds, adjusted by Holm over all pairs given, has p < 0.05; so two
seeds at least. The bootstrap over images and McNemar's test of each seed stand beside it and qualify the sentence. All numbers in
sentences are points (hundredths of accuracy); the dataclasses keep shares (0-1), as `hw1.evaluation.significance` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hw1.ablate.variants import NUM_PUBLISHED_IMAGES, PAIRS, Pair
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
from hw1.report.collect import Collection
from hw1.report.pairing import PairRuns, match_pair

Outcome = Literal["better", "worse", "no significant difference"]
Claim = Literal["none", "if they mostly agree", "these two runs"]

_ONE_RUN = "One run of each cannot speak for the recipe."


@dataclass(frozen=True)
class Comparison:
    """One pair on `num_images` images: over seeds, over images, and McNemar's test of each seed (never of several together).

    `images_needed`: about how many images would tell one run of each apart, at the mean disagreement and difference seen here; None if
    there is no difference or a million are too few.
    """

    num_images: int
    over_seeds: TInterval
    over_images: Interval
    mcnemar: tuple[McNemar, ...]
    images_needed: int | None


@dataclass(frozen=True)
class Verdict:
    """The variant with, seen from the one without.

    `p_adjusted`: Holm's, over the `num_tests` pairs that have a t test; None without one. `seeds_needed`: for a power of 80% at this
    difference and spread, at the level that Holm asks of the smallest p (0.05 / num_tests); None where the pair is told apart, cannot be
    tested or needs more than 1,000.
    """

    outcome: Outcome
    sentence: str
    comparison: Comparison
    p_adjusted: float | None
    num_tests: int
    seeds_needed: int | None


@dataclass(frozen=True)
class PublishedVerdict:
    """What two published accuracies allow to say of the two runs (of the recipes one run each can say nothing).

    `claim`: "none", not even in the best case; "if they mostly agree", only if they disagree on no more than `range.most_disagreements`
    images; "these two runs", they differ even if they err independently.
    """

    claim: Claim
    sentence: str
    range: PublishedRange


def compare(correct_without: NDArray[np.bool_], correct_with: NDArray[np.bool_]) -> Comparison:
    """Compares two variants by their answers, bool [S, N]: row s of each from the same seed, column i the same image.

    Raises `ValueError` for other types, unequal shapes, or no seed or image.
    """
    over_images = bootstrap_difference(correct_without, correct_with)  # first, as it checks the arrays
    num_seeds, num_images = correct_with.shape
    mcnemar = tuple(mcnemar_exact(correct_without[s], correct_with[s]) for s in range(num_seeds))
    over_seeds = paired_t([(test.only_with - test.only_without) / num_images for test in mcnemar])
    discordance = sum(test.only_with + test.only_without for test in mcnemar) / (num_seeds * num_images)
    return Comparison(num_images, over_seeds, over_images, mcnemar, images_needed(discordance, over_seeds.mean))


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """One verdict per comparison, in order; give all pairs of a report at once, as Holm's adjustment is over those given."""
    adjusted = holm([comparison.over_seeds.p for comparison in comparisons])
    num_tests = sum(p is not None for p in adjusted)
    return [_verdict(comparison, p, num_tests) for comparison, p in zip(comparisons, adjusted, strict=True)]


def published_verdict(accuracy_without: float, accuracy_with: float, num_images: int) -> PublishedVerdict:
    """The same question put to two published accuracies (0-1) of one run each on `num_images` images.

    Raises `ValueError` for accuracies outside 0-1, NaN or None.
    """
    found = published_range(accuracy_without, accuracy_with, num_images)
    gap = abs(found.count_with - found.count_without)
    (difference,) = _points(found.interval.mean)
    apart = f"about {gap} of {num_images} images" if gap else f"equal to the nearest of {num_images} images"
    head = f"{difference} points ({apart}, one run each):"
    if found.most_disagreements is None:
        best = f", even if no other image is right in just one of the two runs ({_p(found.p_best)})" if gap else ""
        return PublishedVerdict("none", f"{head} no significant difference{best}; {_smallest(found)}.", found)
    if found.p_independent < ALPHA:
        sentence = f"{head} these two runs differ, even if their errors are independent ({_p(found.p_independent)}). {_ONE_RUN}"
        return PublishedVerdict("these two runs", sentence, found)
    sentence = (
        f"{head} the two runs are told apart only if no more than {found.most_disagreements} images are right in just one of them"
        f" ({_p(found.p_best)} at best); with independent errors it would be about {found.disagreements_independent}"
        f" ({_p(found.p_independent)}). {_ONE_RUN}"
    )
    return PublishedVerdict("if they mostly agree", sentence, found)


def _verdict(comparison: Comparison, p_adjusted: float | None, num_tests: int) -> Verdict:
    over_seeds = comparison.over_seeds
    if over_seeds.n == 1:
        return Verdict("no significant difference", _one_seed(comparison), comparison, None, num_tests, None)
    if p_adjusted is None or over_seeds.std is None:
        return Verdict("no significant difference", _no_spread(comparison), comparison, None, num_tests, None)
    mean, low, high = _points(over_seeds.mean, over_seeds.low, over_seeds.high)
    head = f"{mean} points (95% interval {low} to {high}, {over_seeds.n} seeds)"
    if p_adjusted < ALPHA:
        outcome: Outcome = "better" if over_seeds.mean > 0 else "worse"
        return Verdict(outcome, f"{head}: {outcome}.{_images_disagree(comparison)}", comparison, p_adjusted, num_tests, None)
    needed = seeds_needed(over_seeds.mean, over_seeds.std, ALPHA / num_tests)
    if over_seeds.p is not None and over_seeds.p < ALPHA:
        size = f"as one of {num_tests} pairs looked at together ({_p(over_seeds.p)} alone, {_p(p_adjusted)} after Holm's correction)"
    else:
        size = "at this size"
    if needed is not None:
        size += f"; about {needed} seeds would be needed to tell a difference of this size"
    elif over_seeds.mean:
        size += f"; more than {MAX_SEEDS:,} seeds would be needed to tell a difference of this size"
    return Verdict("no significant difference", f"{head}: no significant difference {size}.", comparison, p_adjusted, num_tests, needed)


def _images_disagree(comparison: Comparison) -> str:
    """The caveat of a difference that seeds confirm, but that other images may not."""
    low, high = comparison.over_images.low, comparison.over_images.high
    if low is None or high is None or low > 0 or high < 0:
        return ""
    least, most = _points(low, high)
    return f" This holds for these {comparison.num_images} images; for others of their kind it is {least} to {most} points."


def _one_seed(comparison: Comparison) -> str:
    (mean,) = _points(comparison.over_seeds.mean)
    (test,) = comparison.mcnemar
    head = f"{mean} points (1 seed): no significant difference, as one seed cannot speak for the recipe."
    if not test.only_with + test.only_without:
        return f"{head} Both runs are right on the same images."
    if test.p < ALPHA:
        return f"{head} The two runs themselves differ on these {comparison.num_images} images (McNemar {_p(test.p)})."
    more = f"; {_images(comparison.images_needed)} images would be needed" if comparison.over_seeds.mean else ""
    return f"{head} Nor do the two runs differ on these {comparison.num_images} images (McNemar {_p(test.p)}){more}."


def _no_spread(comparison: Comparison) -> str:
    (mean,) = _points(comparison.over_seeds.mean)
    head = f"{mean} points in each of {comparison.over_seeds.n} seeds: no significant difference"
    if comparison.over_seeds.mean:
        return f"{head}, as seeds without any spread give no interval; more seeds or images would show one."
    same = all(not test.only_with + test.only_without for test in comparison.mcnemar)
    return f"{head}; both are right on the same images." if same else f"{head}."


def _points(*shares: float | None) -> list[str]:
    """Shares as signed points, with as many decimals (1-3) as keep every number that is not zero from looking like it."""
    points = [100 * share for share in shares if share is not None]
    decimals = next((d for d in (1, 2) if all(not point or abs(point) >= 0.5 * 10**-d for point in points)), 3)
    return [f"{point:+.{decimals}f}" if round(point, decimals) else "0.0" for point in points]


def _smallest(found: PublishedRange) -> str:
    """How large the published difference would have to be."""
    if found.smallest_best is None:
        return f"no difference in this direction is large enough on {found.num_images} images"
    at_least, independent = found.smallest_best, found.smallest_independent
    text = f"at least {round(at_least * found.num_images)} images ({100 * at_least:.1f} points) would be needed"
    if independent is None:
        return text
    return f"{text}, and about {round(independent * found.num_images)} ({100 * independent:.1f} points) with independent errors"


def _p(p: float) -> str:
    """Two decimals, three below 0.1, so that the side of 0.05 shows."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _images(count: int | None) -> str:
    """Two leading digits: more would feign precision."""
    return f"more than {MAX_IMAGES:,}" if count is None else f"about {round(count, 2 - len(str(count))):,}"


@dataclass(frozen=True, eq=False)
class PairResult:
    """`verdict` is None where `matched.obstacles` says why; `published` is None where the report has no such pair."""

    pair: Pair
    matched: PairRuns
    verdict: Verdict | None
    published: PublishedVerdict | None

    @property
    def title(self) -> str:
        """The pair's title as a heading."""
        return self.pair.title[0].upper() + self.pair.title[1:]

    @property
    def outcome(self) -> str:
        """better, worse, no significant difference, not compared (runs, but no fair comparison), or not run."""
        if self.verdict:
            return self.verdict.outcome
        return "not compared" if self.matched.runs else "not run"

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.verdict:
            return self.verdict.sentence
        return f"{self.outcome}: {'. '.join(self.matched.obstacles)}."


def analyse(collection: Collection) -> list[PairResult]:
    """All pairs of `hw1.ablate.variants`, in order. Holm's correction is over those that can be tested here."""
    matched = [match_pair(pair, collection) for pair in PAIRS]
    comparisons = {item.pair.name: compare(*item.correct) for item in matched if not item.obstacles}
    found = dict(zip(comparisons, verdicts(list(comparisons.values())), strict=True))
    return [PairResult(item.pair, item, found.get(item.pair.name), _published(item.pair)) for item in matched]


def _published(pair: Pair) -> PublishedVerdict | None:
    without, with_ = pair.published_without, pair.published_with
    if not without or not with_:
        return None
    return published_verdict(without.accuracy, with_.accuracy, NUM_PUBLISHED_IMAGES)
