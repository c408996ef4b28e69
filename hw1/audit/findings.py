"""From what was read to findings: what should be mended before training. Counts and sizes are statistics, and no findings."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw1.audit.duplicates import Groups, Link
from hw1.audit.inventory import WHOLE, Inventory
from hw1.audit.scan import Look, Scan

KINDS = {
    "leak": "the same image in two splits",
    "conflict": "the same image under two labels",
    "duplicate": "the same image twice in one split and class",
    "unreadable": "files that cannot be read",
    "missing class": "classes without an image in a split",
}
TINY = 10  # training images of a class below which it is named
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    kind: str
    """One of KINDS."""
    text: str
    files: list[str]
    """Relative to the root; the class folder, of a missing class."""
    links: tuple[Link, ...] = ()
    """Of copies: a tree that holds the files together."""
    members: tuple[int, ...] = ()
    """Of copies: positions in the contents, as `files`."""


def find_all(inventory: Inventory, found: Scan, groups: Groups) -> list[Finding]:
    """Every finding, in the order of KINDS, and there in the order of the files. Copies in two splits and two classes are found twice."""
    findings = [*_copies(inventory, groups), *_unreadable(inventory, found), *_missing(inventory)]
    return sorted(findings, key=lambda finding: list(KINDS).index(finding.kind))


def leaked(inventory: Inventory, groups: Groups) -> dict[str, dict[str, int]]:
    """Split -> earlier split -> how many images of the first are also in the second, where there are any."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    order = list(inventory.splits)
    for members in groups.copies():
        splits = Counter(inventory.images[index].split for index in members)
        for split, count in splits.items():
            for earlier in order[: order.index(split)]:
                if earlier in splits:
                    counts[split][earlier] = counts[split].get(earlier, 0) + count
    return {split: dict(counts[split]) for split in order if split in counts}


def statistics(inventory: Inventory, found: Scan) -> dict[str, Any]:
    """Counts, sizes, kinds of images; shares and ratios as numbers."""
    train = next(iter(inventory.classes.values()), {})
    sizes = [count for count in train.values() if count]
    return {
        "splits": {split: _split_facts(inventory, found, split) for split in inventory.splits},
        "classes": {name: {split: counts.get(name, 0) for split, counts in inventory.classes.items()} for name in _all_classes(inventory)},
        "imbalance": max(sizes) / min(sizes) if sizes else None,
        "tiny_classes": {name: count for name, count in train.items() if 0 < count < TINY},
        "traits": _traits(inventory, found),
        "strays": inventory.num_stray,
    }


def headlines(inventory: Inventory, leaks: dict[str, dict[str, int]], findings: Sequence[Finding]) -> list[str]:
    """The audit in a few lines, what spoils an evaluation first."""
    sizes = inventory.splits
    lines = [
        f"leak: {count} of {sizes[split]} {split} images ({count / sizes[split]:.1%}) are also in {earlier}"
        for split, counts in leaks.items()
        for earlier, count in counts.items()
    ]
    counted = Counter(finding.kind for finding in findings)
    found = ", ".join(f"{counted[kind]} x {kind}" for kind in KINDS if counted[kind])
    lines.append(f"{sum(counted.values())} findings: {found}" if found else "clean: no finding")
    if WHOLE in sizes and counted["duplicate"]:
        lines.append("without a val/ of its own, data.val_fraction may draw one copy for validation and leave the other for training")
    lines.append(f"{sum(sizes.values())} images: " + ", ".join(f"{count} {split}" for split, count in sizes.items()))
    return lines


def _all_classes(inventory: Inventory) -> dict[str, None]:
    """Names of the classes of all splits, each split in natural order."""
    return dict.fromkeys(name for counts in inventory.classes.values() for name in counts)


def _split_facts(inventory: Inventory, found: Scan, split: str) -> dict[str, Any]:
    looks = [look for look, image in zip(found.looks, inventory.images, strict=True) if image.split == split]
    readable = [look for look in looks if look.width]
    facts: dict[str, Any] = {"images": len(looks), "classes": sum(map(bool, inventory.classes.get(split, {}).values())) or None}
    facts["bytes"] = sum(look.num_bytes for look in looks)
    for side, values in (("width", [look.width for look in readable]), ("height", [look.height for look in readable])):
        facts[side] = {"min": min(values), "median": float(np.median(values)), "max": max(values)} if values else None
    return facts


def _traits(inventory: Inventory, found: Scan) -> dict[str, dict[str, Any]]:
    """Trait -> how many images have it, and the first few of them."""
    files = defaultdict(list)
    for index, look in enumerate(found.looks):
        for trait in (*look.traits, *_blank(look, bool(found.has_detail[index]))):
            files[trait].append(inventory.images[index].file)
    return {trait: {"images": len(files[trait]), "examples": files[trait][:EXAMPLES]} for trait in sorted(files)}


def _blank(look: Look, has_detail: bool) -> tuple[str, ...]:
    return () if has_detail or look.reason else ("blank or smooth",)


def _copies(inventory: Inventory, groups: Groups) -> Iterator[Finding]:
    links = defaultdict(list)
    for link in groups.links:
        links[int(groups.of[link.first])].append(link)
    for members in groups.copies():
        images = [inventory.images[index] for index in members]
        files, tree = [image.file for image in images], tuple(links[int(groups.of[members[0]])])
        splits = list(dict.fromkeys(image.split for image in images))
        labels = list(dict.fromkeys(image.label for image in images if image.label is not None))
        how = describe(tree)
        if len(splits) > 1:
            yield Finding("leak", f"in {_and(splits)}: {how}", files, tree, tuple(members))
        if len(labels) > 1:
            yield Finding("conflict", f"labelled {_and(labels)}: {how}", files, tree, tuple(members))
        if len(splits) == 1 and len(labels) <= 1:
            yield Finding("duplicate", f"{len(files)} times in {splits[0]}: {how}", files, tree, tuple(members))


def describe(links: tuple[Link, ...]) -> str:
    """What the copies of a group are: same file, near copy (mirrored, resized), ..."""
    kinds = Counter(_how(link) for link in links)
    return ", ".join(f"{count} x {how}" if count > 1 else how for how, count in kinds.items())


def _how(link: Link) -> str:
    changes = [word for word, is_so in (("mirrored", link.match.mirrored), ("resized", link.match.resized)) if is_so]
    return link.match.how + (f" ({', '.join(changes)})" if changes else "")


def _unreadable(inventory: Inventory, found: Scan) -> Iterator[Finding]:
    for look, image in zip(found.looks, inventory.images, strict=True):
        if look.reason:
            yield Finding("unreadable", look.reason, [image.file])


def _missing(inventory: Inventory) -> Iterator[Finding]:
    for split, counts in inventory.classes.items():
        for name in _all_classes(inventory):
            if not counts.get(name):
                others = [f"{other} has {found[name]}" for other, found in inventory.classes.items() if found.get(name)]
                there = f" ({', '.join(others)})" if others else ""
                folder = name if split == WHOLE else f"{split}/{name}"
                yield Finding("missing class", f"{split} has no image of class {name}{there}", [folder])


def _and(words: list[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)
