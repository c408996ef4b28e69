"""Batch order: every sample once an epoch, and any step again from (seed, epoch, step) alone."""

import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, Dataset

from hw1.data.loader.sampler import REPEAT_STRIDE, EpochBatches

SIZES = {"num_samples": st.integers(1, 200), "batch_size": st.integers(1, 70)}
SEEDS = {"seed": st.integers(0, 2**32 - 1), "epoch": st.integers(0, 100_000)}
ORDER = [2, 1, 8, 4, 0, 9, 6, 5, 7, 3]


def batches_of(batches: EpochBatches, epoch: int, start: int = 0) -> list[list[tuple[int, int]]]:
    batches.seek(epoch, start)
    return list(batches)


@given(**SIZES, **SEEDS, shuffle=st.booleans())
def test_every_sample_once_an_epoch_in_batches_of_the_stated_size(num_samples, batch_size, seed, epoch, shuffle):
    batches = EpochBatches(num_samples, batch_size, seed, shuffle)
    whole = batches_of(batches, epoch)
    assert sorted(key for batch in whole for key in batch) == [(epoch, index) for index in range(num_samples)]
    assert len(whole) == len(batches) == batches.num_batches == math.ceil(num_samples / batch_size)
    assert [len(batch) for batch in whole] == [batches.batch_size_of(step) for step in range(batches.num_batches)]
    assert all(len(batch) == batch_size for batch in whole[:-1])


@given(**SIZES, **SEEDS, data=st.data())
def test_any_step_on_is_the_rest_of_the_epoch(num_samples, batch_size, seed, epoch, data):
    whole = batches_of(EpochBatches(num_samples, batch_size, seed, True), epoch)
    start = data.draw(st.integers(0, len(whole)))
    other = EpochBatches(num_samples, batch_size, seed, True)
    batches_of(other, epoch + 1)
    assert batches_of(other, epoch, start) == whole[start:]
    assert len(other) == len(whole) - start


@given(**SIZES, seed=st.integers(0, 2**32 - 1))
def test_without_shuffling_the_order_is_the_sets(num_samples, batch_size, seed):
    whole = batches_of(EpochBatches(num_samples, batch_size, seed, False), 3)
    assert [index for batch in whole for _, index in batch] == list(range(num_samples))


def test_orders_of_other_epochs_and_seeds_are_unrelated():
    orders = {(seed, epoch): EpochBatches(500, 32, seed, True).order(epoch) for seed in (0, 1, 118) for epoch in (0, 1, 2, 118)}
    assert len({order.tobytes() for order in orders.values()}) == len(orders)
    keys = list(orders)
    for a in range(len(keys)):
        for b in range(a):
            assert abs(stats.spearmanr(orders[keys[a]], orders[keys[b]]).statistic) < 4 / math.sqrt(500)


def test_every_place_is_equally_likely():
    firsts = Counter(int(EpochBatches(8, 4, 118, True).order(epoch)[0]) for epoch in range(2000))
    assert stats.chisquare([firsts[index] for index in range(8)]).pvalue > 0.01


def test_order_stays_what_it_is():
    """A run goes on after an update only if the same seed still gives the same order; recorded when this was written."""
    assert EpochBatches(10, 3, 118, True).order(0).tolist() == ORDER


def test_another_process_gives_the_same_order():
    code = "from hw1.data.loader.sampler import EpochBatches; print(EpochBatches(50, 8, 118, True).order(7).tolist())"
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "3"}, check=True
    )
    assert there.stdout.strip() == str(EpochBatches(50, 8, 118, True).order(7).tolist())


def test_an_iteration_goes_on_as_it_began():
    batches = EpochBatches(20, 4, 118, True)
    whole = batches_of(batches, 2)
    batches.seek(2)
    under_way = iter(batches)
    batches.seek(5, 3)
    assert list(under_way) == whole


class Keys(Dataset):
    def __getitem__(self, key):
        return key


def test_serves_a_data_loader_with_persistent_workers():
    batches = EpochBatches(21, 4, 118, True)
    loader = DataLoader(Keys(), batch_sampler=batches, num_workers=2, persistent_workers=True, collate_fn=list)
    for epoch, start in ((0, 0), (1, 2), (0, 0), (1, 6)):
        expected = batches_of(batches, epoch, start)
        assert len(loader) == len(expected)
        assert list(loader) == expected


@pytest.mark.parametrize(("num_samples", "batch_size"), [(0, 4), (5, 0), (5, -1)])
def test_refuses_sizes_below_one(num_samples, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        EpochBatches(num_samples, batch_size, 0, True)


def test_refuses_steps_that_no_epoch_has():
    batches = EpochBatches(10, 4, 0, True)
    for epoch, start in ((-1, 0), (0, -1), (0, 4)):
        with pytest.raises(ValueError, match="within 0"):
            batches.seek(epoch, start)
    for step in (-1, 3):
        with pytest.raises(ValueError, match="within 0"):
            batches.batch_size_of(step)


def test_a_long_epoch_is_ordered_in_no_time():
    order = EpochBatches(1_281_167, 256, 118, True).order(3)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(1_281_167))


# ------------------------------------------------------------------------------------------------------------ balanced


def labels_of(counts: list[int]) -> np.ndarray:
    """Labels with a gap after each, in no order."""
    return np.random.default_rng(0).permutation(np.repeat(2 * np.arange(len(counts)), counts))


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=9), batch_size=st.integers(1, 70), **SEEDS)
def test_balanced_classes_come_equally_often_and_their_samples_too(counts, batch_size, seed, epoch):
    labels = labels_of(counts)
    whole = batches_of(EpochBatches(len(labels), batch_size, seed, True, labels), epoch)
    keys = [key for batch in whole for key in batch]
    assert [len(batch) for batch in whole[:-1]] == [batch_size] * (len(whole) - 1)
    assert len(keys) == len(set(keys)) == len(labels), "as many as there are samples, and none augmented as before"
    samples = Counter(index for _, index in keys)
    classes = Counter(labels[index] for _, index in keys)
    drawn = [classes[label] for label in np.unique(labels)]
    assert max(drawn) - min(drawn) <= 1
    for label in np.unique(labels):
        times = [samples[index] for index in np.flatnonzero(labels == label)]
        assert max(times) - min(times) <= 1
    for index, times in samples.items():
        assert [first for first, other in keys if other == index] == [epoch + repeat * REPEAT_STRIDE for repeat in range(times)]


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), batch_size=st.integers(1, 20), data=st.data(), **SEEDS)
def test_balanced_any_step_on_is_the_rest_of_the_epoch(counts, batch_size, data, seed, epoch):
    labels = labels_of(counts)
    whole = batches_of(EpochBatches(len(labels), batch_size, seed, True, labels), epoch)
    start = data.draw(st.integers(0, len(whole)))
    other = EpochBatches(len(labels), batch_size, seed, True, labels)
    batches_of(other, epoch + 1)
    assert batches_of(other, epoch, start) == whole[start:]
    num = data.draw(st.integers(0, len(labels) + 3))
    assert other.first(num) == [key for batch in batches_of(other, 0) for key in batch][:num]


def test_balanced_every_sample_of_a_large_class_has_its_turn():
    labels = np.repeat([0, 1], [90, 10])
    batches = EpochBatches(100, 32, 118, True, labels)
    times = Counter(index for epoch in range(400) for batch in batches_of(batches, epoch) for _, index in batch)
    expected = np.where(labels == 0, 400 * 50 / 90, 400 * 5)
    assert stats.chisquare([times[index] for index in range(90)], expected[:90]).pvalue > 0.01
    assert [times[index] for index in range(90, 100)] == [2000] * 10
    first_labels = [labels[index] for epoch in range(400) for _, index in batches_of(batches, epoch)[0]]
    assert abs(np.mean(first_labels) - 0.5) < 0.02, "every batch holds both"
