"""Every pair with its verdict, or with the reason why there is none, and what its published numbers allow to say."""

from dataclasses import dataclass

from hw1.pairs import NUM_PUBLISHED_IMAGES, PAIRS, Pair
from hw1.report.collect import Collection
from hw1.report.match import PairRuns, match_pair
from hw1.verdict import PublishedVerdict, Verdict, compare, published_verdict, verdicts


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
        """better, worse, not told apart, not compared (runs, but no fair comparison), or not run."""
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
    """All pairs of `hw1.pairs`, in order. Holm's correction is over those that can be tested here."""
    matched = [match_pair(pair, collection) for pair in PAIRS]
    comparisons = {item.pair.name: compare(*item.correct) for item in matched if not item.obstacles}
    found = dict(zip(comparisons, verdicts(list(comparisons.values())), strict=True))
    return [PairResult(item.pair, item, found.get(item.pair.name), _published(item.pair)) for item in matched]


def _published(pair: Pair) -> PublishedVerdict | None:
    without, with_ = pair.published_without, pair.published_with
    if not without or not with_:
        return None
    return published_verdict(without.accuracy, with_.accuracy, NUM_PUBLISHED_IMAGES)
