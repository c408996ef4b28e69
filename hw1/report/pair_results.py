"""The result of every pair of the ablation: its runs and its verdict, and the verdict on the published numbers. No torch."""

from dataclasses import dataclass

from hw1.ablate.variants import PAIRS, Pair
from hw1.report.pairing import PairRuns, match_pair
from hw1.report.published import PublishedVerdict, published_verdict
from hw1.report.run_record import Collection
from hw1.report.verdict import Verdict, compare, verdicts


@dataclass(frozen=True, eq=False)
class PairResult:
    """The result of one pair.

    Attributes:
        pair: The pair.
        matched: Its runs.
        verdict: None if `matched.obstacles` forbid a comparison.
        published: None if the report published no such pair.
    """

    pair: Pair
    matched: PairRuns
    verdict: Verdict | None
    published: PublishedVerdict | None

    @property
    def title(self) -> str:
        """The pair's title as a heading; a pair of backbones is called by those that were run."""
        if self.pair in PAIRS and self.pair.factor == ("model.name",) and self.matched.runs:
            without, with_ = (runs[0].recipe.model.name for runs in (self.matched.without, self.matched.with_))
            return f"{with_} instead of {without}" if with_ != without else f"{with_} on both sides"
        return self.pair.title[0].upper() + self.pair.title[1:]

    @property
    def outcome(self) -> str:
        """better, worse, no significant difference, needs three seeds, not compared (runs, but no fair comparison), or not run."""
        if self.verdict:
            return self.verdict.outcome
        return "not compared" if self.matched.runs else "not run"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.verdict:
            return self.verdict.sentence
        return f"{self.outcome}: {'. '.join(self.matched.obstacles)}."


def compare_pairs(collection: Collection) -> list[PairResult]:
    """Compare all pairs of `hw1.ablate.variants`, in order; Holm's correction is over those that can be tested here."""
    matched = [match_pair(pair, collection) for pair in PAIRS]
    comparisons = {item.pair.name: compare(*item.correct) for item in matched if not item.obstacles}
    verdict_of = dict(zip(comparisons, verdicts(list(comparisons.values())), strict=True))
    return [PairResult(item.pair, item, verdict_of.get(item.pair.name), published_of(item.pair)) for item in matched]


def published_of(pair: Pair) -> PublishedVerdict | None:
    """Return what the published accuracies of a pair say; None if the report published no such pair."""
    without, with_ = pair.published_without, pair.published_with
    if not without or not with_:
        return None
    return published_verdict(without.accuracy, with_.accuracy)
