"""Headroom: every nanosecond and every cent belongs to a class, and to the one that the fleet is sized for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from sim.results.headroom import (
    FAILED,
    IDLE,
    PARTS,
    SPARE,
    STARTING,
    USED,
    PaidTime,
    busy_by_class,
    cost_nano_usd,
    headroom_weights,
    largest_remainder,
    split_by_class,
    spread,
)

HOUR = 3600 * 10**9


def intervals(*rows: list[float]) -> NDArray[np.int64]:
    return (np.array(rows) * HOUR).astype(np.int64)


def test_largest_remainders_by_hand() -> None:
    assert largest_remainder(10, [1, 1, 1]) == [4, 3, 3]
    assert largest_remainder(10, [5, 3, 2]) == [5, 3, 2]
    assert largest_remainder(1, [0.2, 0.5, 0.3]) == [0, 1, 0]
    assert largest_remainder(7, [0, 0]) == [4, 3]
    assert largest_remainder(0, [1, 2]) == [0, 0]
    assert largest_remainder(10**18 + 1, [1e-300, 1e-300]) == [5 * 10**17 + 1, 5 * 10**17]


@pytest.mark.parametrize(("total", "weights"), [(1, []), (-1, [1.0]), (1, [-1.0, 2.0]), (1, [float("nan")])])
def test_what_cannot_be_split_is_refused(total: int, weights: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot split"):
        largest_remainder(total, weights)


@given(total=some.integers(0, 2**62), weights=some.lists(some.floats(0, 1e12), min_size=1, max_size=8))
def test_parts_sum_to_the_total_and_are_within_one_of_their_quota(total: int, weights: list[float]) -> None:
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    assert min(parts) >= 0
    amount = sum(weights)
    if amount > 0:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * (weight / amount)) <= 1 + total * 1e-14


def test_the_class_of_the_peak_bears_the_headroom_and_the_one_of_the_valleys_none() -> None:
    """Ten replicas for four hours: voice needs all of them in one hour, batch fills two in each of the others."""
    busy = intervals([0, 2], [8, 0], [0, 2], [0, 2])
    paid = PaidTime(accelerators=2, used_ns=14 * HOUR, idle_ns=26 * HOUR)
    split = split_by_class(paid, busy, 0.05) / HOUR
    assert split[:, USED].tolist() == [16, 12]
    assert split[:, IDLE].tolist() == [52, 0]


def test_two_classes_that_share_the_peak_bear_what_they_leave_of_their_allotment() -> None:
    busy = intervals([6, 2], [1, 2], [1, 2], [0, 2])
    weights = headroom_weights(busy, 40 * HOUR, 0.05) / HOUR
    # Three quarters and a quarter of the peak are 30 and 10 of 40 hours; 8 each are used.
    assert weights.tolist() == [22, 2]


def test_the_peak_is_the_busiest_intervals() -> None:
    busy = intervals(*[[1, 0]] * 18, [9, 3], [9, 3])
    assert (headroom_weights(busy, 240 * HOUR, 0.1) / HOUR).tolist() == pytest.approx([180 - 36, 60 - 6])
    # One interval in twenty is the peak, and of two that tie it is the first.
    busy = intervals(*[[1, 0]] * 18, [0, 12], [12, 0])
    assert (headroom_weights(busy, 240 * HOUR, 0.05) / HOUR).tolist() == [0, 228]


def test_a_pool_that_did_nothing_and_one_that_did_nothing_else() -> None:
    assert headroom_weights(intervals([0, 0], [0, 0]), HOUR, 0.05).tolist() == [1, 1]
    # All that is paid is used: what cannot be there is shared like the peak.
    assert headroom_weights(intervals([1, 1]), 2 * HOUR, 0.05).tolist() == [0.5, 0.5]


times = some.integers(0, 10**15)


@given(
    accelerators=some.integers(1, 72),
    idle=times, spare=times, starting=times, failed=times,
    busy=some.lists(some.lists(some.integers(0, 10**14), min_size=3, max_size=3), min_size=1, max_size=6),
    price=some.floats(0.1, 20.0),
)  # fmt: skip
def test_time_and_money_add_up_to_the_last_nanosecond_and_the_last_billionth(
    accelerators: int, idle: int, spare: int, starting: int, failed: int, busy: list[list[int]], price: float
) -> None:
    used = np.array(busy, np.int64)
    paid = PaidTime(accelerators, int(used.sum()), idle, spare, starting, failed)
    split = split_by_class(paid, used, 0.05)
    assert split.shape == (3, len(PARTS))
    assert (split >= 0).all()
    assert split.sum(axis=0).tolist() == list(paid.parts_ns)
    assert [paid.parts_ns[part] for part in (SPARE, STARTING, FAILED)] == [
        accelerators * each for each in (spare, starting, failed)
    ]
    cost = cost_nano_usd(split, price)
    total = sum(paid.parts_ns)
    assert int(cost.sum()) == round(total * price * (1e9 / 3.6e12))
    assert (cost[split == 0] == 0).all()


def test_an_accelerator_hour_costs_its_price() -> None:
    split = np.array([[HOUR, HOUR], [2 * HOUR, 0]], np.int64)
    assert cost_nano_usd(split, 2.5).tolist() == [[2_500_000_000, 2_500_000_000], [5_000_000_000, 0]]


# Whose busy time


def test_weights_are_spread_over_the_intervals_that_they_meet() -> None:
    edges = np.array([0.0, 10.0, 20.0, 30.0])
    starts, ends = np.array([5.0, 0.0, 12.0, -10.0]), np.array([25.0, 10.0, 12.0, 10.0])
    weights = np.array([20.0, 3.0, 7.0, 4.0])
    assert spread(starts, ends, weights, edges) == pytest.approx([5 + 3 + 2, 10 + 7, 5])


@given(
    rows=some.lists(
        some.tuples(some.floats(0, 90), some.one_of(some.just(0.0), some.floats(0.01, 50)), some.floats(0, 9)),
        max_size=20,
    )
)
def test_spreading_is_the_sum_of_the_overlaps(rows: list[tuple[float, float, float]]) -> None:
    edges = np.linspace(0.0, 100.0, 11)
    expected = np.zeros(10)
    for start, length, weight in rows:
        for index in range(10):
            if length > 0:
                overlap = min(start + length, edges[index + 1]) - max(start, edges[index])
                expected[index] += weight * max(0.0, overlap) / length
            elif edges[index] <= start < edges[index + 1]:
                expected[index] += weight
    starts, lengths, weights = (np.array([row[place] for row in rows]) for place in range(3))
    assert spread(starts, starts + lengths, weights, edges) == pytest.approx(expected, abs=1e-6)


def test_busy_time_of_an_interval_is_shared_by_what_was_done_in_it() -> None:
    shared = busy_by_class(np.array([10, 9, 0]), np.array([[3.0, 1.0], [0.0, 0.0], [1.0, 1.0]]))
    assert shared.tolist() == [[8, 2], [5, 4], [0, 0]]
