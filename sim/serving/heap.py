"""A binary heap of (key, slot) records inside an array: which sequence is next to finish, in O(log n).

Ties are broken by slot, so that the order of equal keys never depends on history.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled


@compiled
def _before(heap: NDArray[np.void], left: int, right: int) -> bool:
    if heap[left]["key"] != heap[right]["key"]:
        return heap[left]["key"] < heap[right]["key"]
    return heap[left]["slot"] < heap[right]["slot"]


@compiled
def _swap(heap: NDArray[np.void], left: int, right: int) -> None:
    key, slot = heap[left]["key"], heap[left]["slot"]
    heap[left]["key"], heap[left]["slot"] = heap[right]["key"], heap[right]["slot"]
    heap[right]["key"], heap[right]["slot"] = key, slot


@compiled
def _sift_up(heap: NDArray[np.void], position: int) -> None:
    while position > 0:
        parent = (position - 1) >> 1
        if not _before(heap, position, parent):
            return
        _swap(heap, position, parent)
        position = parent


@compiled
def _sift_down(heap: NDArray[np.void], size: int, position: int) -> None:
    while True:
        child = 2 * position + 1
        if child >= size:
            return
        if child + 1 < size and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, position):
            return
        _swap(heap, child, position)
        position = child


@compiled
def heap_push(heap: NDArray[np.void], size: int, key: int, slot: int) -> int:
    """Add an entry; return the new size."""
    heap[size]["key"] = key
    heap[size]["slot"] = slot
    _sift_up(heap, size)
    return size + 1


@compiled
def heap_pop(heap: NDArray[np.void], size: int) -> int:
    """Remove the smallest entry, which stands at position 0; return the new size."""
    last = size - 1
    _swap(heap, 0, last)
    _sift_down(heap, last, 0)
    return last


@compiled
def heap_remove(heap: NDArray[np.void], size: int, slot: int) -> int:
    """Remove the entry of a slot, found by a scan (preemptions are rare); return the new size.

    Nothing changes when the slot has no entry.
    """
    for position in range(size):
        if heap[position]["slot"] == slot:
            last = size - 1
            _swap(heap, position, last)
            if position < last:
                _sift_down(heap, last, position)
                _sift_up(heap, position)
            return last
    return size
