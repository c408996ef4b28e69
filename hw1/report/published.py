"""State what the published accuracies allow: one run of each variant, of which only a mean over batches is known. No files, no torch.

The report evaluated 300 images in nine batches of 32 and one of 12 and averaged the accuracies of the batches, so that an image of the last
batch weighs more than another, and several counts of right images give the same accuracy. Everything here is worked out for each count that
an accuracy allows, and stated as a range.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from hw1.ablate.variants import NUM_PUBLISHED_IMAGES
from hw1.evaluation.significance import ALPHA, Interval, mcnemar_p, newcombe_interval
from hw1.report.points import format_p, format_points

FULL_BATCH = 32
NUM_FULL, LAST_BATCH = divmod(NUM_PUBLISHED_IMAGES, FULL_BATCH)
MIN_LAST = 8
"""Right images of the last batch below which a count is passed over: of 12 images of which each is right with a probability of 0.85, fewer
than 8 are right in 2 of 100 batches."""
_HALF_DIGIT = 0.5e-4 + 1e-12  # accuracies are published with four decimals

Claim = Literal["none", "open", "these two runs"]


class RightImages(NamedTuple):
    """Numbers of right images in the nine full batches together, and in the last batch."""

    full: int
    last: int

    @property
    def total(self) -> int:
        """Right images of all 300."""
        return self.full + self.last

    @property
    def batch_mean(self) -> float:
        """Mean of the ten batches' accuracies (0-1), as the report computed it."""
        return (self.full / FULL_BATCH + self.last / LAST_BATCH) / (NUM_FULL + 1)


@dataclass(frozen=True)
class CountPair:
    """Two counts of right images that the published accuracies of a pair allow.

    Attributes:
        without: Right images of the run without.
        with_: Right images of the run with.
        p_best: McNemar's p if all disagreements go one way.
        p_independent: McNemar's p if the two runs err independently.
    """

    without: int
    with_: int
    p_best: float
    p_independent: float

    @property
    def difference(self) -> int:
        """Images that the run with has more."""
        return self.with_ - self.without


@dataclass(frozen=True)
class PublishedVerdict:
    """What two published accuracies say about the two runs; about the recipes one run of each can say nothing.

    Runs of one kind share hard images, so McNemar's true p is likely between `p_best` and `p_independent` of the true counts.

    Attributes:
        claim: "none": no significant difference whatever the counts, even in the best case; "these two runs": they differ whatever the
            counts, even if they err independently; "open": it depends on the counts, or on which images were right.
        sentence: The claim in words.
        counts: Each pair of counts that the accuracies allow, by difference.
        interval: Published difference, and the hull of Newcombe's intervals of all `counts`.
    """

    claim: Claim
    sentence: str
    counts: tuple[CountPair, ...]
    interval: Interval


def allowed_counts(accuracy: float, min_last: int = MIN_LAST) -> list[RightImages]:
    """Return the counts of right images whose mean over batches is the published accuracy, by their total.

    Args:
        accuracy: 0-1, rounded to four decimals.
        min_last: Fewest right images of the last batch.
    """
    every = (RightImages(full, last) for full in range(NUM_FULL * FULL_BATCH + 1) for last in range(min_last, LAST_BATCH + 1))
    return sorted((count for count in every if abs(count.batch_mean - accuracy) <= _HALF_DIGIT), key=lambda count: count.total)


def published_verdict(accuracy_without: float, accuracy_with: float) -> PublishedVerdict:
    """Return what two published accuracies (0-1, four decimals) say.

    Raises:
        ValueError: An accuracy is none that the report's batches can give.
    """
    without, with_ = (_totals(accuracy) for accuracy in (accuracy_without, accuracy_with))
    counts = tuple(sorted((_count_pair(*pair) for pair in product(without, with_)), key=lambda pair: (pair.difference, pair.without)))
    intervals = [newcombe_interval(pair.without, pair.with_, NUM_PUBLISHED_IMAGES) for pair in counts]
    hull = Interval(accuracy_with - accuracy_without, min(low for low, _ in intervals), max(high for _, high in intervals))
    claim: Claim = "open"
    if all(pair.p_best >= ALPHA for pair in counts):
        claim = "none"
    elif all(pair.p_independent < ALPHA for pair in counts):
        claim = "these two runs"
    return PublishedVerdict(claim, _sentence(claim, counts, hull.mean), counts, hull)


def list_numbers(numbers: Iterable[int], *, signed: bool = False) -> str:
    """Return different whole numbers as words: `-10 or -5`, `+11, +16 or +21`."""
    *others, last = (f"{number:+d}" if signed and number else str(number) for number in sorted(set(numbers)))
    return f"{', '.join(others)} or {last}" if others else last


def _totals(accuracy: float) -> list[int]:
    totals = [count.total for count in allowed_counts(accuracy)]
    if not totals:
        raise ValueError(f"no count of right images in {NUM_FULL} batches of {FULL_BATCH} and one of {LAST_BATCH} gives {accuracy}")
    return totals


def _count_pair(without: int, with_: int) -> CountPair:
    fewer, gap = min(without, with_), abs(with_ - without)
    # Images that are right in the worse run alone, if the errors are independent.
    only_worse = round(fewer * (NUM_PUBLISHED_IMAGES - max(without, with_)) / NUM_PUBLISHED_IMAGES)
    return CountPair(without, with_, mcnemar_p(0, gap), mcnemar_p(only_worse, only_worse + gap))


def _sentence(claim: Claim, counts: Sequence[CountPair], difference: float) -> str:
    (points,), num_images = format_points(difference), NUM_PUBLISHED_IMAGES
    gaps = list_numbers((pair.difference for pair in counts), signed=True)
    words = {"none": "no significant difference", "open": "whether the two runs differ is open", "these two runs": "these two runs differ"}
    best, independent = _by_difference(counts, "p_best"), _by_difference(counts, "p_independent")
    return (
        f"{points} points, which is {gaps} of {num_images} images (one run each): {words[claim]}. McNemar's p is {independent} if the "
        f"errors of the two runs are independent, {best} if all disagreements go one way. One run of each cannot speak for the recipe."
    )


def _by_difference(counts: Sequence[CountPair], name: Literal["p_best", "p_independent"]) -> str:
    """Return the p-values for each difference, as `0.20 (+11), 0.048-0.064 (+16)`."""
    texts = {}
    for gap in sorted({pair.difference for pair in counts}):
        values = sorted(getattr(pair, name) for pair in counts if pair.difference == gap)
        texts[gap] = "-".join(dict.fromkeys(format_p(value) for value in (values[0], values[-1])))
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({gap:+d})" for gap, text in texts.items())
