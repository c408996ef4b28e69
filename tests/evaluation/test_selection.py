"""The bias of the best of many, against closed forms and random draws."""

import math

import numpy as np
import pytest

from hw1.evaluation.selection import expected_maximum, pooled_std


def test_the_expected_maximum_is_that_of_the_closed_forms():
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert expected_maximum(3) == pytest.approx(3 / (2 * math.sqrt(math.pi)))


@pytest.mark.parametrize("num", [12, 50, 1000])
def test_the_expected_maximum_is_that_of_random_draws(num):
    draws = np.random.default_rng(0).standard_normal((20_000, num), dtype=np.float32).max(axis=1)
    assert expected_maximum(num) == pytest.approx(float(draws.mean()), abs=5 * float(draws.std()) / math.sqrt(20_000))


def test_no_draw_has_no_maximum():
    with pytest.raises(ValueError, match="at least one"):
        expected_maximum(0)


def test_the_pooled_spread_is_that_about_each_groups_own_mean():
    rng = np.random.default_rng(0)
    groups = [5 + rng.normal(0, 0.1, 3), rng.normal(0, 0.1, 3)]
    assert pooled_std([list(group) for group in groups]) == pytest.approx(math.sqrt(np.mean([group.var(ddof=1) for group in groups])))
    assert pooled_std([[1.0], [2.0]]) is None
    assert pooled_std([]) is None
