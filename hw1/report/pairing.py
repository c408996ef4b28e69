"""Match the runs of a pair seed by seed, and find what forbids or qualifies their comparison."""

import fnmatch
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw1.ablate.variants import Pair
from hw1.config.load import differences
from hw1.config.recipe import MAY_CHANGE
from hw1.report.run_record import Collection, RunRecord

# Where a run ran, what it logged, and its seed. Not how long it trains: a run may be continued for longer, but not be compared then.
NOT_PART_OF_VARIANT = ("seed", "run.*", *(key for key in MAY_CHANGE if key not in ("train.epochs", "train.hours")))


@dataclass(frozen=True, eq=False)
class PairRuns:
    """The finished runs of a pair, seed by seed.

    Attributes:
        pair: The pair.
        without: The runs without the factor.
        with_: The runs with the factor; `with_[i]` has the seed of `without[i]`.
        obstacles: Why there is no verdict: no common seed, other images, other classes, recipes that differ in more than the factor.
        notices: What qualifies the verdict: other code or hardware, seeds without a partner.
    """

    pair: Pair
    without: list[RunRecord]
    with_: list[RunRecord]
    obstacles: list[str]
    notices: list[str]

    @property
    def seeds(self) -> list[int]:
        """The common seeds."""
        return [run.seed for run in self.without]

    @property
    def runs(self) -> list[RunRecord]:
        """All runs of both sides."""
        return [*self.without, *self.with_]

    @property
    def correct(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the predictions without and with are correct, each [S, N]; only if there is no obstacle."""
        return np.stack([run.correct for run in self.without]), np.stack([run.correct for run in self.with_])


def match_pair(pair: Pair, collection: Collection) -> PairRuns:
    """Match the runs of a pair by seed, and compare their data, recipes, code and hardware."""
    all_without, all_with = ({run.seed: run for run in collection.runs_of(name)} for name in (pair.without, pair.with_))
    seeds = sorted(all_without.keys() & all_with.keys())
    without, with_ = [all_without[seed] for seed in seeds], [all_with[seed] for seed in seeds]
    unmatched = [
        f"{_list_seeds(sorted(runs.keys() - others.keys()))} of {name} without a finished partner, so not in this comparison"
        for name, runs, others in ((pair.without, all_without, all_with), (pair.with_, all_with, all_without))
        if runs.keys() - others.keys() and others
    ]
    if not seeds:
        return PairRuns(pair, [], [], [_no_common_seed(pair, all_without, all_with)], unmatched)
    runs = [*without, *with_]
    obstacles = [*data_differences(runs), *(_factor_differences(pair, without, with_) if pair.factor else ())]
    return PairRuns(pair, without, with_, obstacles, [*unmatched, *environment_differences(runs)])


def factor_lines(matched: PairRuns) -> list[str]:
    """Return `key: old -> new` for each key of the pair's factor, as the recipes of the runs have it."""
    if not matched.runs:
        return []
    return [line for key, line in changed_keys(matched.without[0], matched.with_[0]).items() if key in matched.pair.factor]


def data_differences(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line each for class names, validation images and data that are not the same in all runs."""
    lines = [
        _difference(runs, "class names", lambda run: run.class_names, lambda run: f"{len(run.class_names)} classes"),
        _difference(runs, "validation images", lambda run: run.validation_key, lambda run: f"{len(run.files)} images"),
        _difference(runs, "data", _data_key(runs), lambda run: f"fingerprint {run.fingerprint[:8]}"),
    ]
    return [line for line in lines if line]


def environment_differences(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line each for code, main packages and hardware that differ between the runs, and for code that no commit identifies."""
    hardware = "hardware or precision (minutes and images/s do not compare)"
    lines = [
        _difference(runs, "code", lambda run: run.code, lambda run: run.code),
        _difference(runs, "torch or timm", _packages, _packages),
        _difference(runs, hardware, lambda run: run.hardware, lambda run: run.hardware),
    ]
    modified = [run for run in runs if run.code.endswith("modified")]
    if modified and not lines[0]:
        commit = modified[0].code.partition(",")[0]
        lines.insert(1, f"made from a modified checkout, so that {commit} does not identify the code: {_list_runs(modified)}")
    return [line for line in lines if line]


def recipe_differences(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line for each run of a variant whose recipe differs from that of the first in more than the seed."""
    lines = []
    for run in runs[1:]:
        changed = changed_keys(runs[0], run)
        if changed:
            lines.append(f"different recipes: {runs[0].path} -> {run.path}: {'; '.join(changed.values())}")
    return lines


def _data_key(runs: Sequence[RunRecord]) -> Callable[[RunRecord], str]:
    """Return what tells data apart; among runs begun before contents counted, the fingerprint without content."""
    former = "fingerprint_without_content"
    if all(former in run.env for run in runs):
        return lambda run: run.fingerprint
    return lambda run: str(run.env.get(former, run.fingerprint))


def _factor_differences(pair: Pair, without: Sequence[RunRecord], with_: Sequence[RunRecord]) -> list[str]:
    """Return a line for each obstacle: the pair's factor must differ between the sides, and nothing else anywhere."""
    lines = [line for runs in (without, with_) for line in recipe_differences(runs)]
    if lines:
        return lines
    changed = changed_keys(without[0], with_[0])
    others = [line for key, line in changed.items() if key not in pair.factor]
    if others:
        return [f"the recipes differ in more than {', '.join(pair.factor)}: {'; '.join(others)}"]
    if not changed:
        return [f"the recipes do not differ in {', '.join(pair.factor)}"]
    return []


def changed_keys(first: RunRecord, second: RunRecord) -> dict[str, str]:
    """Return `key: old -> new` by key, for the keys that make another variant."""
    refused, allowed = differences(first.recipe, second.recipe)
    lines = {line.partition(":")[0]: line for line in refused + allowed}
    return {key: line for key, line in lines.items() if not any(fnmatch.fnmatchcase(key, pattern) for pattern in NOT_PART_OF_VARIANT)}


def _packages(run: RunRecord) -> str:
    packages = run.env.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    return f"torch {packages.get('torch')}, timm {packages.get('timm')}"


def _difference(
    runs: Sequence[RunRecord], name: str, key: Callable[[RunRecord], Hashable], describe: Callable[[RunRecord], str]
) -> str | None:
    """Return a line that lists the runs by the value of `key`; None if all have the same."""
    groups: dict[Hashable, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    if len(groups) < 2:
        return None
    return f"different {name}: " + "; ".join(f"{describe(members[0])} ({_list_runs(members)})" for members in groups.values())


def _list_runs(runs: Sequence[RunRecord]) -> str:
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.variant, []).append(str(run.seed))
    return ", ".join(f"{variant} seed{'s' * (len(numbers) > 1)} {' '.join(numbers)}" for variant, numbers in seeds.items())


def _list_seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def _no_common_seed(pair: Pair, without: dict[int, RunRecord], with_: dict[int, RunRecord]) -> str:
    absent = [name for name, runs in ((pair.without, without), (pair.with_, with_)) if not runs]
    return f"no finished run of {' or '.join(absent)}" if absent else f"no seed has finished in both {pair.without} and {pair.with_}"
