"""Folds: every class spread evenly, no group in two of them, and what cannot be folded is said."""

from collections import Counter

import numpy as np
import pytest

from hw1.errors import UserError
from hw1.folds.assign import assign_folds


def test_without_groups_every_class_is_spread_to_within_one_image():
    labels = ["a"] * 50 + ["b"] * 23 + ["c"] * 7
    folds = assign_folds(labels, [""] * 80, 5, seed=0)
    for label in "abc":
        counts = Counter(folds[[i for i, each in enumerate(labels) if each == label]].tolist())
        assert max(counts.values()) - min(counts[fold] for fold in range(5)) <= 1
    assert sorted(Counter(folds.tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_folds_and_classes_are_still_about_even(seed):
    rng = np.random.default_rng(seed)
    groups = [f"patient {rng.integers(60)}" if rng.random() < 0.8 else "" for _ in range(400)]
    labels = [rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1]) for _ in range(400)]
    folds = assign_folds(labels, groups, 4, seed)
    for group in set(groups) - {""}:
        assert len({fold for fold, each in zip(folds, groups, strict=True) if each == group}) == 1
    for label in "abc":
        counts = np.bincount(folds[np.array(labels) == label], minlength=4)
        assert counts.min() > 0.5 * counts.mean()


def test_the_draw_depends_on_the_seed_alone():
    labels, groups = ["a", "b"] * 30, [""] * 60
    first, again, other = (assign_folds(labels, groups, 3, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("labels", "groups", "k", "line"),
    [
        ("aabb", ["1", "1", "1", ""], 3, "--k 3: there are only 2 groups of images"),
        ("aabb", ["", "", "", ""], 3, "--k 3: no class has as many images; a smaller number is possible"),
        (
            "aaaab",
            [""] * 5,
            2,
            "class b: all its images lie in one fold, as they are one image or one group",
        ),
        ("aaaabb", ["", "", "", "", "x", "x"], 2, "class b: all its images lie in one fold"),
    ],
)
def test_what_cannot_be_folded_is_one_line(labels, groups, k, line):
    with pytest.raises(UserError) as error:
        assign_folds(list(labels), groups, k, seed=0)
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith(line)
