"""Which runs may be set side by side: the two sides of a pair seed by seed, and what stands between them."""

import fnmatch
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw1.ablate.variants import Pair
from hw1.config.load import differences
from hw1.config.recipe import MAY_CHANGE
from hw1.report.collect import Collection, RunRecord

# Where and how loudly a run ran, and its seed. Not `train.epochs`: one may continue a run for longer, but not compare the two.
NO_PART_OF_THE_VARIANT = ("seed", "run.*", *(key for key in MAY_CHANGE if key != "train.epochs"))


@dataclass(frozen=True, eq=False)
class PairRuns:
    """A pair's finished runs, seed by seed: `without[i]` and `with_[i]` have the same seed.

    `obstacles`: why no verdict may be given (no common seed, other images, other classes, recipes that differ in more than the factor).
    `notices`: what the reader has to know beside it (other code or hardware, seeds without a partner).
    """

    pair: Pair
    without: list[RunRecord]
    with_: list[RunRecord]
    obstacles: list[str]
    notices: list[str]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.without]

    @property
    def runs(self) -> list[RunRecord]:
        return [*self.without, *self.with_]

    @property
    def correct(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Right answers without and with, each [S, N]; only where there is no obstacle."""
        return np.stack([run.correct for run in self.without]), np.stack([run.correct for run in self.with_])


def match_pair(pair: Pair, collection: Collection) -> PairRuns:
    """The seeds that have finished on both sides, and what was found on comparing them."""
    left, right = ({run.seed: run for run in collection.of(name)} for name in (pair.without, pair.with_))
    seeds = sorted(left.keys() & right.keys())
    without, with_ = [left[seed] for seed in seeds], [right[seed] for seed in seeds]
    alone = [
        f"{_seeds(sorted(own.keys() - other.keys()))} of {name} without a finished partner, so not in this comparison"
        for name, own, other in ((pair.without, left, right), (pair.with_, right, left))
        if own.keys() - other.keys() and other
    ]
    if not seeds:
        return PairRuns(pair, [], [], [_no_seed(pair, left, right)], alone)
    obstacles = [*other_material([*without, *with_]), *_other_recipes(pair, without, with_)]
    return PairRuns(pair, without, with_, obstacles, [*alone, *other_circumstances([*without, *with_])])


def factor_lines(matched: PairRuns) -> list[str]:
    """`key: old -> new` of the pair's factor, as the runs' own recipes have it."""
    if not matched.runs:
        return []
    return [line for key, line in _changed(matched.without[0], matched.with_[0]).items() if key in matched.pair.factor]


def other_material(runs: Sequence[RunRecord]) -> list[str]:
    """One line each for data, validation images and class names that are not the same in all `runs`."""
    found = [
        _told_apart(runs, "class names", lambda run: run.class_names, lambda run: f"{len(run.class_names)} classes"),
        _told_apart(runs, "validation images", lambda run: run.validation, lambda run: f"{len(run.files)} images"),
        _told_apart(runs, "data", lambda run: run.data, lambda run: f"fingerprint {run.data[:8]}"),
    ]
    return [line for line in found if line]


def other_circumstances(runs: Sequence[RunRecord]) -> list[str]:
    """One line each for code, main packages and hardware that are not the same in all `runs`, and for code that no commit tells."""
    found = [
        _told_apart(runs, "code", lambda run: run.code, lambda run: run.code),
        _told_apart(runs, "torch or timm", _packages, _packages),
        _told_apart(
            runs, "hardware or precision (minutes and images/s do not compare)", lambda run: run.hardware, lambda run: run.hardware
        ),
    ]
    modified = [run for run in runs if run.code.endswith("modified")]
    if modified and not found[0]:
        commit = modified[0].code.partition(",")[0]
        found.insert(1, f"made from a modified checkout, so that {commit} does not tell the code: {_names(modified)}")
    return [line for line in found if line]


def other_recipes(runs: Sequence[RunRecord]) -> list[str]:
    """One line for each run whose recipe is not that of the first; for the runs of one variant, which should differ in the seed alone."""
    lines = []
    for run in runs[1:]:
        changed = _changed(runs[0], run)
        if changed:
            lines.append(f"different recipes: {runs[0].path} -> {run.path}: {'; '.join(changed.values())}")
    return lines


def _other_recipes(pair: Pair, without: Sequence[RunRecord], with_: Sequence[RunRecord]) -> list[str]:
    """The pair's factor must differ between the sides, and nothing else anywhere."""
    lines = [line for side in (without, with_) for line in other_recipes(side)]
    if lines:
        return lines
    changed = _changed(without[0], with_[0])
    beside = [line for key, line in changed.items() if key not in pair.factor]
    if beside:
        return [f"the recipes differ in more than {', '.join(pair.factor)}: {'; '.join(beside)}"]
    if not changed:
        return [f"the recipes do not differ in {', '.join(pair.factor)}"]
    return []


def _changed(first: RunRecord, second: RunRecord) -> dict[str, str]:
    """`key: old -> new` by key, for what makes another variant."""
    refused, allowed = differences(first.recipe, second.recipe)
    lines = {line.partition(":")[0]: line for line in refused + allowed}
    return {key: line for key, line in lines.items() if not any(fnmatch.fnmatchcase(key, pattern) for pattern in NO_PART_OF_THE_VARIANT)}


def _packages(run: RunRecord) -> str:
    packages = run.env.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    return f"torch {packages.get('torch')}, timm {packages.get('timm')}"


def _told_apart(
    runs: Sequence[RunRecord], what: str, key: Callable[[RunRecord], Hashable], shown: Callable[[RunRecord], str]
) -> str | None:
    groups: dict[Hashable, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    if len(groups) < 2:
        return None
    return f"different {what}: " + "; ".join(f"{shown(members[0])} ({_names(members)})" for members in groups.values())


def _names(runs: Sequence[RunRecord]) -> str:
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.variant, []).append(str(run.seed))
    return ", ".join(f"{variant} seed{'s' * (len(numbers) > 1)} {' '.join(numbers)}" for variant, numbers in seeds.items())


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def _no_seed(pair: Pair, left: dict[int, RunRecord], right: dict[int, RunRecord]) -> str:
    absent = [name for name, runs in ((pair.without, left), (pair.with_, right)) if not runs]
    return f"no finished run of {' or '.join(absent)}" if absent else f"no seed has finished in both {pair.without} and {pair.with_}"
