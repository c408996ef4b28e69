"""Derive findings, which should be mended before training, and statistics (counts, sizes), which are no findings."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw1.audit.duplicates import Groups, Link
from hw1.audit.inventory import WHOLE, Inventory
from hw1.audit.scan import FileFacts, Scan
from hw1.data.alike_names import ALIKE, find_alike
from hw1.data.first_bytes import may_be_image
from hw1.data.passed_over import group_strays
from hw1.utils.text import counted

KINDS = {
    "leak": "the same image in two splits",
    "conflict": "the same image under two labels",
    "duplicate": "the same image twice in one split and class",
    "unreadable": "files that cannot be read",
    "cut short": "files that end in zeros, as a download that was cut short does",
    "missing class": "classes without an image in a split",
    "alike": "classes whose names differ only in Unicode form, case or spaces",
    "unclear": "test images both in class folders and beside them, which validate.py refuses",
    "passed over": "files that may be images and are not used",
}
"""Kinds of finding, and what each means."""
TINY = 10  # training images of a class below which it is named
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """Something to mend before training."""

    kind: str
    """One of KINDS."""
    text: str
    files: list[str]
    """Paths relative to the root; of a missing class, its folder; of classes alike, theirs."""
    links: tuple[Link, ...] = ()
    """For copies: the pairs that were compared, a tree over the files."""
    members: tuple[int, ...] = ()
    """For copies: positions of `files` in the inventory."""


def find_all(inventory: Inventory, scan: Scan, groups: Groups) -> list[Finding]:
    """Return every finding, in the order of KINDS and then of the files.

    Copies in two splits and under two labels give two findings, a leak and a conflict.
    """
    findings = [*_copies(inventory, groups), *_unreadable(inventory, scan), *_cut_short(inventory, scan)]
    findings += [*_missing(inventory), *_folders(inventory)]
    return sorted(findings, key=lambda finding: list(KINDS).index(finding.kind))


def count_leaks(inventory: Inventory, groups: Groups) -> dict[str, dict[str, int]]:
    """Count, for each split, its images that are also in an earlier split; return only counts above 0, by split and earlier split."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    order = list(inventory.splits)
    for members in groups.copies():
        splits = Counter(inventory.images[index].split for index in members)
        for split, count in splits.items():
            for earlier in order[: order.index(split)]:
                if earlier in splits:
                    counts[split][earlier] = counts[split].get(earlier, 0) + count
    return {split: dict(counts[split]) for split in order if split in counts}


def statistics(inventory: Inventory, scan: Scan) -> dict[str, Any]:
    """Return counts, sizes and traits of the images, as audit.json holds them."""
    train = next(iter(inventory.classes.values()), {})
    sizes = [count for count in train.values() if count]
    return {
        "splits": {split: _split_facts(inventory, scan, split) for split in inventory.splits},
        "classes": {name: {split: counts.get(name, 0) for split, counts in inventory.classes.items()} for name in _all_classes(inventory)},
        "imbalance": max(sizes) / min(sizes) if sizes else None,
        "tiny_classes": {name: count for name, count in train.items() if 0 < count < TINY},
        "traits": _traits(inventory, scan),
        "strays": len(inventory.strays),
    }


def headlines(inventory: Inventory, leaks: dict[str, dict[str, int]], findings: Sequence[Finding]) -> list[str]:
    """Sum up the audit in a few lines, beginning with what spoils an evaluation."""
    sizes = inventory.splits
    lines = [
        f"leak: {count:,} of {counted(sizes[split], f'{split} image')} ({count / sizes[split]:.1%}) {_are(count)} also in {earlier}"
        for split, counts in leaks.items()
        for earlier, count in counts.items()
    ]
    counts_by_kind = Counter(finding.kind for finding in findings)
    listed = ", ".join(f"{counts_by_kind[kind]} x {kind}" for kind in KINDS if counts_by_kind[kind])
    lines.append(f"{counted(len(findings), 'finding')}: {listed}" if listed else "clean: no finding")
    if WHOLE in sizes and counts_by_kind["duplicate"]:
        lines.append("without a val/ of its own, data.val_fraction may draw one copy for validation and leave the other for training")
    lines.append(f"{counted(sum(sizes.values()), 'image')}: " + ", ".join(f"{count} {split}" for split, count in sizes.items()))
    return lines


def _all_classes(inventory: Inventory) -> dict[str, None]:
    """Return the names of the classes of all splits, in natural order within each split, as keys."""
    return dict.fromkeys(name for counts in inventory.classes.values() for name in counts)


def _split_facts(inventory: Inventory, scan: Scan, split: str) -> dict[str, Any]:
    files = [file for file, image in zip(scan.files, inventory.images, strict=True) if image.split == split]
    readable = [file for file in files if file.width]
    facts: dict[str, Any] = {"pictures": len(files), "classes": sum(map(bool, inventory.classes.get(split, {}).values())) or None}
    facts["bytes"] = sum(file.num_bytes for file in files)
    for side, values in (("width", [file.width for file in readable]), ("height", [file.height for file in readable])):
        facts[side] = {"min": min(values), "median": float(np.median(values)), "max": max(values)} if values else None
    return facts


def _traits(inventory: Inventory, scan: Scan) -> dict[str, dict[str, Any]]:
    """Return how many images have each trait, and the first few of them."""
    files = defaultdict(list)
    for index, file in enumerate(scan.files):
        for trait in (*file.traits, *_blank(file, bool(scan.has_detail[index]))):
            files[trait].append(inventory.images[index].file)
    return {trait: {"pictures": len(files[trait]), "examples": files[trait][:EXAMPLES]} for trait in sorted(files)}


def _blank(file: FileFacts, has_detail: bool) -> tuple[str, ...]:
    return () if has_detail or file.reason else ("blank or smooth",)


def _copies(inventory: Inventory, groups: Groups) -> Iterator[Finding]:
    links = defaultdict(list)
    for link in groups.links:
        links[int(groups.ids[link.first])].append(link)
    for members in groups.copies():
        images = [inventory.images[index] for index in members]
        files, tree = [image.file for image in images], tuple(links[int(groups.ids[members[0]])])
        splits = list(dict.fromkeys(image.split for image in images))
        labels = list(dict.fromkeys(image.label for image in images if image.label is not None))
        how = _describe_links(tree)
        if len(splits) > 1:
            yield Finding("leak", f"in {_join_words(splits)}: {how}", files, tree, tuple(members))
        if len(labels) > 1:
            yield Finding("conflict", f"labelled {_join_words(labels)}: {how}", files, tree, tuple(members))
        if len(splits) == 1 and len(labels) <= 1:
            yield Finding("duplicate", f"{len(files)} times in {splits[0]}: {how}", files, tree, tuple(members))


def _describe_links(links: tuple[Link, ...]) -> str:
    """Say what the copies of a group are: same file, near copy (mirrored, resized), ..."""
    kinds = Counter(_describe_match(link) for link in links)
    return ", ".join(f"{count} x {how}" if count > 1 else how for how, count in kinds.items())


def _describe_match(link: Link) -> str:
    changes = [word for word, is_so in (("mirrored", link.match.mirrored), ("resized", link.match.resized)) if is_so]
    return link.match.how + (f" ({', '.join(changes)})" if changes else "")


def _unreadable(inventory: Inventory, scan: Scan) -> Iterator[Finding]:
    for file, image in zip(scan.files, inventory.images, strict=True):
        if file.reason:
            yield Finding("unreadable", file.reason, [image.file])


def _cut_short(inventory: Inventory, scan: Scan) -> Iterator[Finding]:
    for file, image in zip(scan.files, inventory.images, strict=True):
        if file.num_zeros:
            share = file.num_zeros / file.num_bytes
            yield Finding("cut short", f"the last {file.num_zeros:,} bytes ({share:.0%}) are zero", [image.file])


def _missing(inventory: Inventory) -> Iterator[Finding]:
    for split, counts in inventory.classes.items():
        for name in _all_classes(inventory):
            if not counts.get(name):
                others = [f"{other} has {num[name]}" for other, num in inventory.classes.items() if num.get(name)]
                elsewhere = f" ({', '.join(others)})" if others else ""
                folder = name if split == WHOLE else f"{split}/{name}"
                yield Finding("missing class", f"{split} has no image of class {name}{elsewhere}", [folder])


def _folders(inventory: Inventory) -> Iterator[Finding]:
    """Find what of the folders themselves is not, or may not be, as it was meant."""
    for names in find_alike(_all_classes(inventory)):
        splits = inventory.classes.items()
        folders = [name if split == WHOLE else f"{split}/{name}" for split, counts in splits for name in names if name in counts]
        yield Finding("alike", f"differ only {ALIKE}: {_join_words([ascii(name) for name in names])}", folders)
    for split in inventory.classes:
        if beside := [image.file for image in inventory.images if image.split == split and image.label is None]:
            yield Finding("unclear", f"{counted(len(beside), 'image')} beside the class folders of {split}", beside)
    for kind, strays in group_strays(inventory.root, inventory.strays).items():
        if images := [stray for stray in strays if may_be_image(inventory.root / stray)]:
            yield Finding("passed over", f"{len(images)} {kind}", images)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _join_words(words: list[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)
