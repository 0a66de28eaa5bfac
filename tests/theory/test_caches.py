"""Caches: stack distances against a cache that is played through, and Che's approximation against both."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.theory.caches import COLD, che_hit_ratios, prefix_hits, stack_distances


def played(keys: list[int], capacity: int) -> list[bool]:
    """Return the hits of a cache of so many items that drops the least recently used, step by step."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = []
    for key in keys:
        hits.append(key in cache)
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > capacity:
            cache.popitem(last=False)
    return hits


def test_distances_by_hand() -> None:
    assert stack_distances("abcabba").tolist() == [COLD, COLD, COLD, 3, 3, 1, 2]
    assert stack_distances([]).tolist() == []


@given(keys=st.lists(st.integers(0, 9), max_size=80))
def test_one_pass_knows_the_hits_of_every_capacity(keys: list[int]) -> None:
    distances = stack_distances(keys)
    for capacity in range(12):
        found = [COLD != distance <= capacity for distance in distances.tolist()]
        assert found == played(keys, capacity)


def played_prefixes(requests: list[list[tuple[int, ...]]], capacity: int) -> list[int]:
    cache: OrderedDict[tuple[int, ...], None] = OrderedDict()
    found = []
    for request in requests:
        hits = 0
        while hits < len(request) and request[hits] in cache:
            hits += 1
        found.append(hits)
        for block in reversed(request):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return found


@given(paths=st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=25), capacity=st.integers(0, 20))
def test_prefixes_found_are_those_of_a_cache_that_is_played_through(paths: list[list[int]], capacity: int) -> None:
    requests = [[tuple(path[: depth + 1]) for depth in range(len(path))] for path in paths]
    assert prefix_hits(requests, capacity) == played_prefixes(requests, capacity)


def test_a_prefix_is_dropped_from_its_end() -> None:
    first, other = [("a", depth) for depth in range(4)], [("b", depth) for depth in range(2)]
    assert prefix_hits([first, other, first], 4) == [0, 0, 2]
    assert prefix_hits([first, first], 3) == [0, 3]
    assert prefix_hits([first, first[:2], first], 4) == [0, 2, 4]


def test_che_is_exact_at_both_ends_and_for_equal_items() -> None:
    assert che_hit_ratios([3.0, 1.0, 2.0], 0).tolist() == [0.0, 0.0, 0.0]
    assert che_hit_ratios([3.0, 1.0, 2.0], 3).tolist() == [1.0, 1.0, 1.0]
    assert che_hit_ratios(np.ones(50), 20) == pytest.approx(np.full(50, 0.4))


def test_che_against_the_exact_hits_of_a_skewed_catalogue() -> None:
    rates = 1.0 / np.arange(1, 401) ** 0.8
    probability = rates / rates.sum()
    shares = []
    for seed in range(8):
        keys = np.random.default_rng(seed).choice(400, 12_000, p=probability).tolist()
        late = stack_distances(keys)[4000:]
        shares.append([float(((late != COLD) & (late <= capacity)).mean()) for capacity in (20, 80, 200)])
    found = np.array(shares)
    half = 3.5 * found.std(axis=0, ddof=1) / np.sqrt(len(found))
    for place, capacity in enumerate((20, 80, 200)):
        expected = float(probability @ che_hit_ratios(rates, capacity))
        assert abs(found[:, place].mean() - expected) < half[place] + 0.003
        assert half[place] < 0.01


@given(weights=st.lists(st.floats(0.01, 10.0), min_size=2, max_size=30), share=st.floats(0.01, 0.99))
def test_ratios_sum_to_the_capacity_and_rise_with_the_rate(weights: list[float], share: float) -> None:
    capacity = share * len(weights)
    ratios = che_hit_ratios(weights, capacity)
    assert ratios.sum() == pytest.approx(capacity, rel=1e-6)
    assert (np.diff(ratios[np.argsort(weights, kind="stable")]) >= -1e-12).all()


def test_outside_the_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        prefix_hits([], -1)
    with pytest.raises(ValueError, match="at most as many items"):
        che_hit_ratios([1.0], 2)
    with pytest.raises(ValueError, match="rates above zero"):
        che_hit_ratios([1.0, 0.0], 1)
