"""Arithmetic of spans and the heaps of the replica."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.heap import heap_pop, heap_push, heap_remove
from sim.serving.span import span_duration, steps_within
from sim.serving.state import HEAP_ENTRY


@given(first=st.integers(1, 10**15), growth=st.integers(0, 10**10), steps=st.integers(0, 1000))
def test_span_is_the_sum_of_its_steps(first: int, growth: int, steps: int) -> None:
    assert span_duration(first, growth, steps) == sum(first + step * growth for step in range(steps))


@given(first=st.integers(1, 10**15), growth=st.integers(0, 10**12), limit=st.integers(0, 1 << 60))
def test_steps_within_is_exact(first: int, growth: int, limit: int) -> None:
    """The answer fits and one more step would not, in exact integers."""
    if limit // first > 10**8:
        limit = first * 10**8
    steps = int(steps_within(first, growth, limit))
    exact = [k * first + growth * (k * (k - 1) // 2) for k in (steps, steps + 1)]
    assert exact[0] <= limit < exact[1]


@given(
    entries=st.lists(st.integers(0, 20), min_size=1, max_size=40),
    removed=st.sets(st.integers(0, 39)),
)
def test_heap_pops_in_order_without_the_removed(entries: list[int], removed: set[int]) -> None:
    heap = np.zeros(len(entries), HEAP_ENTRY)
    size = 0
    for slot, key in enumerate(entries):
        size = heap_push(heap, size, key, slot)
    for slot in removed:
        size = heap_remove(heap, size, slot)
    popped = []
    while size:
        popped.append((int(heap[0]["key"]), int(heap[0]["slot"])))
        size = heap_pop(heap, size)
    assert popped == sorted((key, slot) for slot, key in enumerate(entries) if slot not in removed)
