"""Whole groups held out for validation."""

from collections import Counter

import numpy as np
import pytest

from hw1.data.held_out import draw_groups_held_out


def drawn(num: int, classes: int, per_group: int, seed: int) -> tuple[list[str], list[str]]:
    """Images whose groups have one class or several."""
    rng = np.random.default_rng(seed)
    groups = [str(group) for group in rng.integers(0, max(num // per_group, 1), num)]
    labels = [str(int(group) % classes) if rng.random() < 0.9 else str(rng.integers(classes)) for group in groups]
    return labels, groups


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("case", [(600, 3, 5, 0), (600, 10, 4, 1), (900, 2, 30, 2), (50, 5, 2, 3)])
def test_no_group_is_on_both_sides_and_shares_are_near(case, fraction):
    labels, groups = drawn(*case)
    held = draw_groups_held_out(labels, groups, fraction, 118)
    kept = set(range(len(labels))) - held
    assert not {groups[i] for i in held} & {groups[i] for i in kept}
    totals, shares = Counter(labels), Counter(labels[i] for i in held)
    largest = Counter(groups).most_common(1)[0][1]
    for label, total in totals.items():
        assert 0 < shares[label] < total
        assert abs(shares[label] - fraction * total) <= max(largest, 3), "within one group of what was asked for"


def test_the_draw_depends_on_the_seed_alone():
    labels, groups = drawn(400, 4, 3, 7)
    first = draw_groups_held_out(labels, groups, 0.2, 1)
    assert draw_groups_held_out(labels, groups, 0.2, 1) == first
    assert draw_groups_held_out(labels, groups, 0.2, 2) != first


def test_images_without_a_group_stand_alone():
    held = draw_groups_held_out(["a"] * 50 + ["b"] * 50, [""] * 100, 0.2, 0)
    assert Counter(i < 50 for i in held) == {True: 10, False: 10}


def test_training_keeps_a_class_of_one_group_and_validation_gets_the_smaller_of_two():
    labels = ["a"] * 9 + ["b"] * 8 + ["b"] * 7
    groups = ["one"] * 9 + ["large"] * 8 + ["small"] * 7
    assert draw_groups_held_out(labels, groups, 0.2, 0) == set(range(17, 24))
    assert draw_groups_held_out(labels, groups, 0.9, 0) == set(range(9, 17)), "but never all of a class"
