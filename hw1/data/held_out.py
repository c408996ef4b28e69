"""Draw groups of images that are held out of training for validation: no group is on both sides. No torch."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


def draw_groups_held_out(labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int) -> set[int]:
    """Draw whole groups for validation, so that of each class about `fraction` is held out.

    In random order, larger groups first, a group is held out where that brings the shares of its classes nearer to `fraction`. A class of
    which nothing was held out then gives its smallest group. Training keeps a group of every class.

    Args:
        labels: Class of each image.
        groups: Group of each image; an image with "" is a group of its own.
        fraction: Fraction to hold out of each class, 0-1.
        seed: The run's seed.

    Returns:
        Positions of the images that are held out.
    """
    members: dict[str | int, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group or position].append(position)
    counts = {group: Counter(labels[position] for position in positions) for group, positions in members.items()}
    totals = Counter(labels)
    held: Counter[str] = Counter()
    names = list(members)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names)).tolist()]
    order.sort(key=lambda group: -len(members[group]))
    chosen: set[str | int] = set()

    def may_hold_out(group: str | int) -> bool:
        return group not in chosen and all(held[label] + num < totals[label] for label, num in counts[group].items())

    def hold_out(group: str | int) -> None:
        chosen.add(group)
        held.update(counts[group])

    def gain(group: str | int) -> float:
        """Return by how much the squared distances of the shares from `fraction` shrink."""
        shares = ((held[label] / totals[label] - fraction, num / totals[label]) for label, num in counts[group].items())
        return sum(distance**2 - (distance + num) ** 2 for distance, num in shares)

    for group in order:
        if gain(group) > 0 and may_hold_out(group):
            hold_out(group)
    for group in reversed(order):
        if any(not held[label] for label in counts[group]) and may_hold_out(group):
            hold_out(group)
    return {position for group in chosen for position in members[group]}
