"""Group runs into variants: runs whose recipes differ in the seed alone."""

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from hw1.config.settings import flatten
from hw1.report.find_runs import SEED_FOLDER
from hw1.report.pairing import NOT_PART_OF_VARIANT
from hw1.report.run_record import Collection, LeftOut, Run, RunRecord

Item = TypeVar("Item")
MAX_NAMED_KEYS = 2
"""Keys in the name of a variant that has its name in common with another one."""


@dataclass(frozen=True, eq=False)
class Variant:
    """Runs of one recipe.

    Attributes:
        name: `run.name`; where several variants have that name, the folder or the keys that tell this one from them too.
        settings: The recipe's keys that make a variant, see `variant_settings`.
        runs: Finished runs; their `variant` is `name`.
        unfinished: Runs in no statistic of which some epochs can be drawn.
    """

    name: str
    settings: dict[str, Any]
    runs: list[RunRecord]
    unfinished: list[LeftOut]

    @property
    def all_runs(self) -> list[Run]:
        """All runs, unfinished ones last."""
        return [*self.runs, *self.unfinished]


def variant_settings(run: Run) -> dict[str, Any]:
    """Return the recipe's values by dotted key, without seed, place, log and whatever else leaves the variant the same."""
    if run.recipe is None:
        return {}
    values = dict(flatten(run.recipe.model_dump(mode="json")))
    return {key: value for key, value in values.items() if not any(fnmatchcase(key, pattern) for pattern in NOT_PART_OF_VARIANT)}


def group_runs(collection: Collection) -> list[Variant]:
    """Group the runs of a collection, in its order.

    Runs of one name, recipe and data are one variant. Where a seed comes twice among them, as in two folders of runs, each folder is a
    variant of its own.
    """
    drawn = [run for run in collection.all_runs if run.epochs and run.recipe]
    settings = {id(run): variant_settings(run) for run in drawn}

    def recipe_of(run: Run) -> Hashable:
        return run.variant, json.dumps(settings[id(run)], sort_keys=True)

    groups: list[list[Run]] = []
    for same in _split(drawn, recipe_of):
        for of_data in _split_finished(same):
            groups += _without_repeated_seeds(of_data)
    names = _distinct_names(groups, [settings[id(group[0])] for group in groups])
    return [
        Variant(
            name=name,
            settings=settings[id(group[0])],
            runs=[replace(run, variant=name) for run in group if isinstance(run, RunRecord)],
            unfinished=[replace(run, variant=name) for run in group if isinstance(run, LeftOut)],
        )
        for name, group in zip(names, groups, strict=True)
    ]


def relabelled(collection: Collection, variants: Sequence[Variant]) -> Collection:
    """Return the collection in the order and with the names of its variants; what cannot be drawn keeps its own."""
    drawn = [run for variant in variants for run in variant.unfinished]
    others = [run for run in collection.left_out if run.path not in {item.path for item in drawn}]
    return replace(collection, runs=[run for variant in variants for run in variant.runs], left_out=[*drawn, *others])


def differing_keys(variants: Sequence[Variant]) -> list[str]:
    """Return the keys in which the variants' recipes are not all the same, in the order of the recipe."""
    return [key for key in variants[0].settings if any(v.settings.get(key) != variants[0].settings[key] for v in variants[1:])]


def format_value(value: Any) -> str:
    """Return a value of a recipe as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _split(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _split_finished(group: list[Run]) -> list[list[Run]]:
    """Split finished runs by their data; unfinished ones, whose data are not read, go to those of their folder, else to the first."""
    finished: list[list[Run]] = _split(
        [run for run in group if isinstance(run, RunRecord)],
        lambda run: str(run.env.get("fingerprint_without_content", run.fingerprint)) if isinstance(run, RunRecord) else "",
    )
    if not finished:
        return [group]
    for run in group:
        if isinstance(run, LeftOut):
            beside = [runs for runs in finished if any(other.folder.parent == run.folder.parent for other in runs)]
            (beside or finished)[0].append(run)
    return finished


def _without_repeated_seeds(group: list[Run]) -> list[list[Run]]:
    for key in (lambda run: "", lambda run: run.folder.parent, lambda run: run.folder):
        groups = _split(group, key)
        if all(len({run.seed for run in runs}) == len(runs) for runs in groups):
            break
    return groups


def _distinct_names(groups: Sequence[Sequence[Run]], settings: Sequence[dict[str, Any]]) -> list[str]:
    """Name each group by its runs' name; those with one name by folder, then by what differs in their recipes, then by number."""
    names = [group[0].variant for group in groups]
    by_folder = _unless_repeated(names, [_folder_name(group) for group in groups])
    by_keys = _unless_repeated(by_folder, [f"{name}{_keys_suffix(i, by_folder, settings)}" for i, name in enumerate(by_folder)])
    numbered: dict[str, int] = {}
    result = []
    for name in by_keys:
        numbered[name] = numbered.get(name, 0) + 1
        result.append(name if by_keys.count(name) == 1 else f"{name} #{numbered[name]}")
    return result


def _unless_repeated(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Return each name if it is the only one of its kind, else the longer one."""
    return [name if names.count(name) == 1 else other for name, other in zip(names, longer, strict=True)]


def _folder_name(group: Sequence[Run]) -> str:
    path = Path(group[0].path)
    return (path.parent if SEED_FOLDER.fullmatch(path.name) else path).as_posix()


def _keys_suffix(which: int, names: Sequence[str], settings: Sequence[dict[str, Any]]) -> str:
    """Return " (key=value, ...)" of the first keys in which a group differs from others of its name."""
    mine = settings[which]
    others = [each for name, each in zip(names, settings, strict=True) if name == names[which]]
    keys = [key for key, value in mine.items() if any(other.get(key) != value for other in others)][:MAX_NAMED_KEYS]
    return f" ({', '.join(f'{key}={format_value(mine[key])}' for key in keys)})" if keys else ""
