"""A size of batch is tried when it has cost little, used when it is worth it, and never when it says another thing."""

import numpy as np
import pytest

from mammoscan.model.batchsize import NEAR, SHARE, BatchSizes


class _Machine:
    """Takes the seconds a crop that are stated for each size; its clock goes only while it computes."""

    def __init__(self, seconds_a_crop, other_bits=()):
        self.seconds_a_crop, self.other_bits = seconds_a_crop, other_bits
        self.now, self.runs = 0.0, []

    def run(self, count):
        self.runs.append(count)
        self.now += count * self.seconds_a_crop[count]
        rows = np.resize(np.linspace(0, 1, 16, dtype=np.float32), count)
        if count in self.other_bits:
            rows[-1] = np.nextafter(rows[-1], np.float32(2))
        return {"logits": rows}

    def try_all(self, sizes, *, worked=1e9, crops=10**9):
        while sizes.due(worked, crops):
            sizes.measure(self.run, clock=lambda: self.now)


def _same(size):
    return dict.fromkeys((8, 16, 32, 64, 128), 0.01) | size


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({}, 8),  # all alike: the smallest
        ({8: 0.02}, 16),
        ({8: 0.02, 16: 0.02}, 32),
        ({8: 0.05, 16: 0.04, 32: 0.03, 64: 0.02}, 128),
        ({8: 0.02, 16: 0.01 * (1 + NEAR / 2)}, 16),
        ({8: 0.02, 16: 0.01 * (1 + NEAR * 2)}, 32),
    ],
)
def test_the_smallest_size_near_the_best_is_used(seconds, chosen):
    sizes = BatchSizes(16, 128)
    assert sizes.size == 16
    _Machine(_same(seconds)).try_all(sizes)
    assert sizes.size == chosen


def test_a_size_that_says_another_last_bit_of_one_crop_is_not_used_however_fast():
    sizes = BatchSizes(16, 64)
    _Machine(_same({8: 0.02, 16: 0.02, 32: 0.001}), other_bits={32}).try_all(sizes)
    assert sizes.size == 64
    assert sorted(sizes.seconds_a_crop) == [8, 16, 64]
    assert [sizes.fitting(count) for count in (1, 8, 9, 17, 33, 64)] == [8, 8, 16, 64, 64, 64]


def test_larger_sizes_are_not_tried_once_they_are_slower():
    machine = _Machine(_same({8: 0.02, 32: 0.02}))
    sizes = BatchSizes(16, 128)
    machine.try_all(sizes)
    assert sizes.size == 16
    assert machine.runs == [16, 16, 8, 8, 32, 32]


def test_a_short_run_tries_nothing_and_a_long_one_spends_a_small_share_of_it():
    machine = _Machine(_same({}))
    sizes = BatchSizes(16, 128)
    assert not sizes.due(0.0, 0)
    machine.try_all(sizes, worked=2 * 16 * 0.01 / SHARE * 0.99, crops=int(2 * 16 / SHARE * 0.99))
    assert machine.runs == []
    for crops in range(16, 20_000, 16):
        machine.try_all(sizes, worked=crops * 0.01, crops=crops)
        assert machine.now <= SHARE * crops * 0.01 + 1e-9
    assert sorted(set(machine.runs)) == [8, 16, 32, 64, 128]


def test_the_users_own_size_is_used_as_it_is():
    sizes = BatchSizes(16, 64, given=5)
    assert (sizes.size, sizes.fitting(1), sizes.fitting(5)) == (5, 5, 5)
    assert not sizes.due(1e9, 10**9)
